"""Panels by dot products of bytes: the instruction of :meth:`.isa.Isa.dot_bytes` in register tiles."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from .isa import Isa
from .layout import BLOCK
from .panels import Finish, Panel, PanelProduct
from .row_codes import CodeRows
from .script import Buffer, Expr, T, Vector, load

__all__ = ["DotPanels"]


@dataclass(frozen=True)
class DotPanels(PanelProduct):
    """Register tiles of ``rows`` rows and ``num_blocks`` blocks; the last repeats rows of others."""

    isa: Isa
    rows: int
    num_blocks: int

    @property
    def zero_point(self) -> int:
        """As the dot product takes bytes."""
        return self.isa.byte_of_zero

    @property
    def blocks(self) -> int:
        """Those of a register tile."""
        return self.num_blocks

    def multiply(self, panel: Panel, memory: Buffer, x: CodeRows, num_rows: Expr, finish: Finish) -> None:
        """See the base class; there are at least as many rows as a tile has."""
        with T.serial((num_rows + self.rows - 1) // self.rows) as index:
            row = Vector("int64", 1)
            row.set(tirx.min(index * self.rows, num_rows - self.rows))
            with T.serial(panel.blocks // self.num_blocks) as group:
                self._tile(panel, memory, x, row.value, group * self.num_blocks, finish)

    def _tile(
        self, panel: Panel, memory: Buffer, x: CodeRows, row: Expr, block: Expr, finish: Finish
    ) -> None:
        isa, parts = self.isa, BLOCK // self.isa.lanes
        places = [(b, part) for b in range(self.num_blocks) for part in range(parts)]
        sums = [{place: Vector("int32", isa.lanes) for place in places} for _ in range(self.rows)]
        for m in range(self.rows):
            start = T.int32(0)
            if self.zero_point:
                start = x.total(row + m) * T.int32(-self.zero_point)
            for vector in sums[m].values():
                vector.fill(start)
        with T.serial(-(-panel.inputs // 4)) as line:
            weights = {place: Vector("uint8", isa.bytes) for place in places}
            for (b, part), weight in weights.items():
                weight.set(load(memory, panel.place(block + b, line, part * isa.bytes), isa.bytes))
            for m in range(self.rows):
                codes = Vector("int32", isa.lanes)
                codes.fill(x.four(row + m, line))
                for place, weight in weights.items():
                    total = sums[m][place]
                    total.set(isa.dot_bytes(total.value, weight.value, codes.value))
        for m in range(self.rows):
            for b in range(self.num_blocks):
                finish(row + m, block + b, [sums[m][b, part] for part in range(parts)])
