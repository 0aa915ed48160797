"""Panels by AMX' tiles of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from .amx import OF_BYTES, TILE_ROWS, TileOperands, multiply_tiles, release_tiles
from .isa import Isa
from .panels import Finish, Panel, PanelProduct
from .row_codes import LINE_BYTES, CodeRows
from .script import Buffer, Expr, T, Vector, load

__all__ = ["TilePanels"]


@dataclass(frozen=True)
class TilePanels(PanelProduct):
    """Tiles of up to 64 rows by a block; how they follow each other, and what that takes, stands in
    :mod:`.amx`.
    """

    @property
    def zero_point(self) -> int:
        """Both sides are signed."""
        return 0

    @property
    def blocks(self) -> int:
        """One by one."""
        return 1

    @property
    def least_rows(self) -> int:
        """Those of a tile: with less, writing a panel takes longer than what is won by multiplying it."""
        return TILE_ROWS

    def panel_blocks(self, isa: Isa, inputs: int) -> int:
        """Eight, which ask the last cache for eight bytes of rows a cycle, or four where eight do not fit
        half of the second cache.
        """
        return 8 if Panel(8, inputs).num_bytes <= isa.caches.l2_bytes // 2 else 4

    def leave(self) -> None:
        """See the base class."""
        release_tiles()

    def multiply(self, panel: Panel, memory: Buffer, x: CodeRows, num_rows: Expr, finish: Finish) -> None:
        """See the base class."""

        def weights(block: Expr, step: Expr) -> tirx.Expr:
            return T.address_of(load(memory, panel.place(block, step * TILE_ROWS)))

        def finish_row(row: Expr, block: Expr, sums: tirx.Expr) -> None:
            vector = Vector("int32", TILE_ROWS)
            vector.set(sums)
            finish(row, block, [vector])

        operands = TileOperands(
            row=lambda row, step: x.address(row, step * LINE_BYTES),
            row_stride=x.layout.stride,
            weights=weights,
            steps=panel.num_lines // TILE_ROWS,
            blocks=panel.blocks,
            most_blocks=panel.blocks,
        )
        multiply_tiles(OF_BYTES, operands, num_rows, finish_row)
