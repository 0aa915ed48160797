"""Rows and weights of bfloat16 by AMX' tiles."""

from __future__ import annotations

from tvm import tirx

from .amx import OF_BFLOAT16, TILE_ROWS, TileOperands, multiply_tiles, release_tiles
from .float_product import PREFETCH_BYTES, FloatProduct
from .layout import num_pairs
from .rows import RoundedRows
from .script import Expr, T, Vector, load
from .tiles import Blocks, Results, RowsOf, in_order, store_block

__all__ = ["TileProduct"]

_TILE_WORDS = TILE_ROWS * TILE_ROWS


class TileProduct(FloatProduct):
    """A product whose sums are those of one instruction at any number of rows, also at one: in a machine with
    AMX it multiplies faster than memory gives weights.
    """

    def multiply(self, panel: Blocks, num_rows: Expr, results: Results, rows_of: RowsOf = in_order) -> None:
        """See the base class; ``rows_of`` must be :func:`in_order`, for tiles are of neighbouring rows."""
        assert rows_of is in_order, "tiles are of neighbouring rows"
        assert isinstance(self._x, RoundedRows), "tiles multiply rows that were rounded to bfloat16"
        steps, row_words = num_pairs(self._matrix.inputs) // TILE_ROWS, self._x.stride // 2

        def row(number: Expr, step: Expr) -> tirx.Expr:
            return T.address_of(load(self._rows, (number * row_words + step * TILE_ROWS,)))

        def weights(block: Expr, step: Expr) -> tirx.Expr:
            tile = (panel.offset + panel.first + block) * steps + step
            return T.address_of(load(self._weights, (tile * _TILE_WORDS,)))

        def finish(row: Expr, block: Expr, sums: tirx.Expr) -> None:
            vector = Vector("float32", TILE_ROWS)
            vector.set(sums)
            number = panel.first + block
            bias = None if results.bias is None else (results.bias, panel.offset + number)
            store_block(self._isa, results.out, row, number, results.outputs, bias, [vector])

        operands = TileOperands(
            row=row,
            row_stride=4 * row_words,
            weights=weights,
            steps=steps,
            blocks=panel.count,
            most_blocks=max(self.tiling.blocks, self.tiling.panel_blocks),
            ahead=PREFETCH_BYTES // (4 * _TILE_WORDS),
        )
        multiply_tiles(OF_BFLOAT16, operands, num_rows, finish)
        release_tiles()
