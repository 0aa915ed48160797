"""Panels for AVX2: codes of four bits as they are, a byte each, and the whole scales of their groups.

AVX2 multiplies bytes to sums of 16 bits, which a span's products of such codes fit: only then are they
scaled, which adds them up to 32 bits. So a product takes two instructions where bytes of any size take three
and more; and unpacking, which tiles of few rows do each for themselves, is done once.

Of a span there lie its eight lines of codes, then one of scales, as :meth:`.isa.Isa.small_scales` has them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from .coded import FOURS, CodedWeights
from .isa import Isa
from .layout import BLOCK, SPAN
from .panels import Finish, Panel, PanelProduct
from .row_codes import CodeRows
from .script import Buffer, Expr, T, Vector, load, reinterpret, store

__all__ = ["SmallPanels"]

_LINES = FOURS + 1
"""Lines of a span."""


@dataclass(frozen=True)
class _SmallPanel(Panel):
    """Blocks of codes and of scales."""

    @property
    def num_lines(self) -> int:
        """Lines of a block."""
        return self.inputs // SPAN * _LINES


@dataclass(frozen=True)
class SmallPanels(PanelProduct):
    """Register tiles of ``rows`` rows and a block, the last rows' with some of those before again."""

    isa: Isa
    rows: int

    @property
    def zero_point(self) -> int:
        """What is stored for zero, by codes of four bits with signs."""
        return 8

    @property
    def blocks(self) -> int:
        """Those of a register tile."""
        return 1

    def panel(self, blocks: int, inputs: int) -> Panel:
        """See the base class."""
        return _SmallPanel(blocks, inputs)

    def write(self, reader: CodedWeights, panel: Panel, memory: Buffer, block: Expr) -> None:
        """See the base class."""
        assert reader.matrix.zero_point == self.zero_point, "codes are of four bits, with signs"
        isa, parts = self.isa, range(BLOCK // self.isa.lanes)

        def write_span(span: Expr, columns: int) -> None:
            assert columns == SPAN, "products of codes are over whole groups of activations"
            four = reader.fours_of(span)
            for number in range(FOURS):
                for part in parts:
                    place = panel.place(block, span * _LINES + number, part * isa.bytes)
                    store(memory, place, reader.whole_numbers(four(number, part)).value, isa.bytes)
            for part, scale in zip(parts, reader.whole_scales(span), strict=True):
                place = panel.place(block, span * _LINES + FOURS, part * isa.bytes)
                store(
                    memory, place, reinterpret(f"uint8x{isa.bytes}", isa.small_scales(scale.value)), isa.bytes
                )

        reader.for_spans(write_span)

    def multiply(self, panel: Panel, memory: Buffer, x: CodeRows, num_rows: Expr, finish: Finish) -> None:
        """See the base class; there are at least as many rows as a tile has."""
        with T.serial((num_rows + self.rows - 1) // self.rows) as index:
            row = Vector("int64", 1)
            row.set(tirx.min(index * self.rows, num_rows - self.rows))
            with T.serial(panel.blocks) as block:
                self._tile(panel, memory, x, row.value, block, finish)

    def _tile(
        self, panel: Panel, memory: Buffer, x: CodeRows, row: Expr, block: Expr, finish: Finish
    ) -> None:
        isa, parts = self.isa, range(BLOCK // self.isa.lanes)
        totals = [[Vector("int32", isa.lanes) for _ in parts] for _ in range(self.rows)]
        for vector in (v for vectors in totals for v in vectors):
            vector.fill(T.int32(0))
        per_span = SPAN // x.layout.sum_size
        with T.serial(panel.inputs // SPAN) as span:

            def line(number: int, part: int) -> tirx.Expr:
                return load(memory, panel.place(block, span * _LINES + number, part * isa.bytes), isa.bytes)

            sums = [[Vector("int32", isa.lanes) for _ in parts] for _ in range(self.rows)]
            for m in range(self.rows):
                away = x.sum(row + m, span * per_span, per_span) * T.int32(-self.zero_point)
                for vector in sums[m]:
                    vector.fill(isa.begin_small(away))
            for number in range(FOURS):
                weights = [Vector("uint8", isa.bytes) for _ in parts]
                for part in parts:
                    weights[part].set(line(number, part))
                for m in range(self.rows):
                    codes = Vector("int32", isa.lanes)
                    codes.fill(x.four(row + m, span * FOURS + number))
                    for part in parts:
                        total = sums[m][part]
                        total.set(isa.dot_small(total.value, weights[part].value, codes.value))
            for part in parts:
                scales = Vector("int32", isa.lanes)
                scales.set(reinterpret(f"int32x{isa.lanes}", line(FOURS, part)))
                for m in range(self.rows):
                    total = totals[m][part]
                    total.set(isa.add_scaled(total.value, sums[m][part].value, scales.value))
        for m in range(self.rows):
            finish(row + m, block, totals[m])
