"""Rows of floats times weights in a format, whose elements are widened to floats on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from tvm import tirx

from .coded import CodedMatrix, CodedWeights, Group
from .isa import Isa, fma
from .layout import BLOCK, SPAN
from .rows import Rows, load_rows
from .script import Buffer, Expr, T, Vector, broadcast
from .tiles import Blocks, Results, RowsOf, for_tiles, in_order, store_block, zeros
from .tiling import FloatTiling

__all__ = ["DecodedProduct"]


class DecodedProduct:
    """Activations ``rows``, seen as ``x``, times a matrix in a format."""

    def __init__(
        self,
        isa: Isa,
        matrix: CodedMatrix,
        x: Rows,
        rows: Buffer,
        weights: Sequence[Buffer],
    ) -> None:
        self._isa, self._matrix, self._x = isa, matrix, x
        self._rows, self._weights = rows, weights
        self.tiling = FloatTiling(isa.float_rows, blocks=1, steps=matrix.inputs, panel_blocks=1)

    def multiply(self, panel: Blocks, num_rows: Expr, results: Results, rows_of: RowsOf = in_order) -> None:
        """Emit the products of ``num_rows`` rows with a panel, block after block."""
        isa = self._isa
        with T.serial(panel.count) as index:
            block = panel.first + index
            stored = panel.offset + block
            biases = None if results.bias is None else (results.bias, stored)

            def tile(height: int, row: Expr) -> None:
                sources, targets = rows_of(row, height)

                def activation(m: int, column: Expr) -> tirx.Expr:
                    return load_rows(self._rows, self._x, sources[m], panel.column + column)

                def finish(m: int, parts: list[Vector]) -> None:
                    store_block(isa, results.out, targets[m], block, results.outputs, biases, parts)

                _multiply(isa, self._matrix, activation, self._weights, stored, height, finish)

            for_tiles(num_rows, isa.float_rows, tile)


def _multiply(
    isa: Isa,
    matrix: CodedMatrix,
    activation: Callable[[int, Expr], tirx.Expr],
    weights: Sequence[Buffer],
    block: Expr,
    height: int,
    finish: Callable[[int, list[Vector]], None],
) -> None:
    """Emit one tile: ``height`` rows times block number ``block`` of a matrix in ``weights``.

    ``activation`` gives a row's (by its number within the tile) element of a column, and ``finish`` is given
    its 16 results.
    """
    reader = CodedWeights(isa, matrix, weights, block, meet_floats=True)
    parts, group_size = BLOCK // isa.lanes, min(matrix.format.group_size or SPAN, SPAN)
    totals = zeros(isa, height)

    def multiply(span: Expr, columns: range, group: Group, four: Callable[[int, int], Vector]) -> None:
        """Add the products of columns of one group; where there is no offset, the scale is for their sum.

        Columns with even and with odd numbers are added up apart, so that no addition waits for another.
        """
        apart = group.zeros is not None or group.minima is not None
        sums = [totals] if apart else [zeros(isa, height), zeros(isa, height)]
        for column in columns:
            if column % 4 == 0:
                codes = [four(column // 4, part) for part in range(parts)]
            for part in range(parts):
                weight = Vector("float32", isa.lanes)
                weight.set(reader.floats(codes[part], column % 4))
                if group.zeros is not None:
                    weight.set((weight.value - group.zeros[part].value) * group.scales[part].value)
                if group.minima is not None:
                    scale, minimum = group.scales[part].value, group.minima[part].value
                    weight.set(fma(isa.lanes, weight.value, scale, minimum))
                for m in range(height):
                    value = broadcast(activation(m, span * SPAN + column), isa.lanes)
                    total = sums[column % len(sums)][m][part]
                    total.set(fma(isa.lanes, value, weight.value, total.value))
        if not apart:
            for m, part in product(range(height), range(parts)):
                added = sums[0][m][part].value + sums[1][m][part].value
                totals[m][part].set(fma(isa.lanes, added, group.scales[part].value, totals[m][part].value))

    def multiply_span(span: Expr, columns: int) -> None:
        four = reader.fours_of(span)
        for first in range(0, columns, group_size):
            group = reader.group(span * (SPAN // group_size) + first // group_size)
            multiply(span, range(first, min(first + group_size, columns)), group, four)

    reader.for_spans(multiply_span)
    for m in range(height):
        finish(m, totals[m])
