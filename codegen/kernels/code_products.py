"""One register tile of a product of codes: some rows times one block of weights in a format.

Weights whose rows are whole numbers of eight bits times one scale meet rows of codes with one scale each:
then all of a row is one exact sum, whatever is added first, and it is scaled once. Others are exact within a
group, and floats are added in one order, groups ascending.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from .coded import FOURS, ROW_GROUP, CodedMatrix, CodedWeights
from .isa import Isa, fma
from .layout import BLOCK, SPAN, planes_of
from .row_codes import CodeRows, RowCodes
from .script import Buffer, Expr, T, Vector, broadcast, cast, load
from .tiles import zeros
from .tiling import find_tiling
from .widening import widened_fours

__all__ = ["finish_sums", "load_bias", "multiply_codes", "rows_for", "tile_rows"]

_Fours = Callable[[int, int], Vector]


@dataclass(frozen=True)
class _Tile:
    """What :func:`multiply_codes` emits: ``height`` rows of ``x`` from ``row`` times ``reader``'s block."""

    reader: CodedWeights
    x: CodeRows
    row: Expr
    height: int
    finish: Callable[[int, list[Vector]], None]
    bias: Sequence[tirx.Expr] | None


def rows_for(matrix: CodedMatrix, pieces: int = 1) -> RowCodes:
    """How the rows lie that meet a matrix."""
    group_size = matrix.inputs if matrix.format.is_whole_by_row else ROW_GROUP
    return RowCodes(matrix.inputs, group_size, matrix.row_sum_size or matrix.sum_size, pieces)


def tile_rows(isa: Isa, matrix: CodedMatrix) -> tuple[int, ...]:
    """Heights of register tiles, each half the one before."""
    if not matrix.format.is_whole_by_row:
        return isa.integer_rows
    largest = find_tiling(isa, matrix.inputs).rows
    return tuple(largest >> halved for halved in range(largest.bit_length()))


def multiply_codes(
    isa: Isa,
    matrix: CodedMatrix,
    x: CodeRows,
    weights: Sequence[Buffer],
    block: Expr,
    row: Expr,
    height: int,
    finish: Callable[[int, list[Vector]], None],
    bias: Buffer | None = None,
) -> None:
    """Emit one tile: ``height`` rows of ``x`` from ``row`` times block number ``block`` of ``weights``.

    ``finish`` is given each row's number within the tile and its 16 results, with the block's of ``bias``.
    """
    biases = None if bias is None else load_bias(isa, bias, block)
    reader = CodedWeights(isa, matrix, weights, block)
    multiply = _multiply_whole_rows if matrix.format.is_whole_by_row else _multiply_groups
    multiply(_Tile(reader, x, row, height, finish, biases))


def load_bias(isa: Isa, bias: Buffer, block: Expr) -> list[tirx.Expr]:
    """What is added to a block's outputs."""
    return [load(bias, (block * BLOCK + part * isa.lanes,), isa.lanes) for part in range(BLOCK // isa.lanes)]


def finish_sums(
    reader: CodedWeights,
    x: CodeRows,
    row: Expr,
    sums: list[Vector],
    bias: Sequence[tirx.Expr] | None,
) -> list[Vector]:
    """A row's 16 results, of its exact sums.

    A bias is added without rounding before, as compilers would do here and there, if they were left to.
    """
    isa, (scales, offsets) = reader.isa, reader.row_factors()
    results = []
    for part, total in enumerate(sums):
        result = Vector("float32", isa.lanes)
        value = cast("float32", isa.lanes, total.value)
        if offsets is not None:
            away = broadcast(T.float32(0) - cast("float32", 1, x.total(row)), isa.lanes)
            value = fma(isa.lanes, offsets[part].value, away, value)
        scale = broadcast(x.scale(row), isa.lanes) * scales[part].value
        result.set(value * scale if bias is None else fma(isa.lanes, value, scale, bias[part]))
        results.append(result)
    return results


def _sums(isa: Isa, height: int) -> list[list[Vector]]:
    return [[Vector("int32", isa.lanes) for _ in range(BLOCK // isa.lanes)] for _ in range(height)]


def _fours_in_turn(matrix: CodedMatrix, isa: Isa, fours: range) -> list[tuple[int, int]]:
    """Numbers of fours and their parts: those side by side that share bytes."""
    step = max(1, 8 // max(width for width, _ in planes_of(matrix.format.bits)))
    parts = range(BLOCK // isa.lanes)
    return [
        (number, part) for first in fours[::step] for part in parts for number in range(first, first + step)
    ]


def _is_widened(isa: Isa, matrix: CodedMatrix, height: int) -> bool:
    """Whether it is less work to scale weights than each row's sums."""
    return matrix.format.has_whole_scales and height >= find_tiling(isa, matrix.inputs).widened_rows


def _multiply_whole_rows(tile: _Tile) -> None:
    reader, x, row, height = tile.reader, tile.x, tile.row, tile.height
    isa, matrix = reader.isa, reader.matrix
    totals, widened = _sums(isa, height), _is_widened(isa, matrix, height)
    in_groups = matrix.format.has_whole_scales and not widened
    zero_point = isa.byte_of_zero if widened else matrix.zero_point
    subtract = bool(zero_point) and (widened or not isa.subtracts_zero_point(zero_point))
    for m in range(height):
        start = x.total(row + m) * T.int32(-zero_point) if subtract and not in_groups else T.int32(0)
        for total in totals[m]:
            total.fill(start)
    per_span = SPAN // x.layout.sum_size

    def multiply_span(span: Expr, columns: int) -> None:
        four, sums = reader.fours_of(span), totals
        wide = widened_fours(reader, span, zero_point) if widened else None
        if in_groups:
            sums = _sums(isa, height)
            for m in range(height):
                start = isa.begin_small(x.sum(row + m, span * per_span, per_span) * T.int32(-zero_point))
                for total in sums[m]:
                    total.fill(start)
        for number, part in _fours_in_turn(matrix, isa, range(FOURS)):
            weight = Vector("uint8", isa.bytes)
            weight.set(reader.whole_numbers(four(number, part)).value if wide is None else wide(number, part))
            for m in range(height):
                total, codes = sums[m][part], broadcast(x.four(row + m, span * FOURS + number), isa.lanes)
                if wide is not None:
                    total.set(isa.dot_bytes(total.value, weight.value, codes))
                elif in_groups:
                    total.set(isa.dot_small(total.value, weight.value, codes))
                else:
                    total.set(isa.dot(total.value, weight.value, codes, zero_point))
        if in_groups:
            for part, scales in enumerate(reader.whole_scales(span)):
                by = Vector("int32", isa.lanes)
                by.set(isa.small_scales(scales.value))
                for m in range(height):
                    totals[m][part].set(isa.add_scaled(totals[m][part].value, sums[m][part].value, by.value))

    reader.for_spans(multiply_span)
    for m in range(height):
        tile.finish(m, finish_sums(reader, x, row + m, totals[m], tile.bias))


def _multiply_groups(tile: _Tile) -> None:
    reader, x, row, height = tile.reader, tile.x, tile.row, tile.height
    isa, matrix = reader.isa, reader.matrix
    parts = BLOCK // isa.lanes
    size, zero_point = matrix.sum_size, matrix.zero_point
    subtract = bool(zero_point) and not isa.subtracts_zero_point(zero_point)
    totals = zeros(isa, height)

    def multiply(span: Expr, number: int, four: _Fours) -> None:
        """Add what sum ``number`` of a span is, whose products are exact."""
        per_sum = size // x.layout.sum_size
        first_sum = (span * (SPAN // size) + number) * per_sum

        def sum_of_codes(m: int) -> tirx.Expr:
            return x.sum(row + m, first_sum, per_sum)

        sums = _sums(isa, height)
        for m in range(height):
            start = sum_of_codes(m) * T.int32(-zero_point) if subtract else T.int32(0)
            for part in range(parts):
                sums[m][part].fill(start)
        fours = range(number * size // 4, (number + 1) * size // 4)
        for number_of_four, part in _fours_in_turn(matrix, isa, fours):
            unsigned = reader.whole_numbers(four(number_of_four, part))
            for m in range(height):
                codes = broadcast(x.four(row + m, span * FOURS + number_of_four), isa.lanes)
                sums[m][part].set(isa.dot(sums[m][part].value, unsigned.value, codes, zero_point))
        group = reader.group(span * (SPAN // size) + number)
        for part in range(parts):
            for m in range(height):
                total, value = totals[m][part], cast("float32", isa.lanes, sums[m][part].value)
                x_scale = x.scale(row + m, span)
                if group.zeros is not None or group.minima is not None:
                    x_total = cast("float32", 1, sum_of_codes(m))
                if group.zeros is not None:
                    away = broadcast(T.float32(0) - x_total, isa.lanes)
                    value = fma(isa.lanes, group.zeros[part].value, away, value)
                scaled = value * broadcast(x_scale, isa.lanes)
                total.set(fma(isa.lanes, scaled, group.scales[part].value, total.value))
                if group.minima is not None:
                    x_part = broadcast(x_total * x_scale, isa.lanes)
                    total.set(fma(isa.lanes, x_part, group.minima[part].value, total.value))

    def multiply_span(span: Expr, columns: int) -> None:
        assert columns == SPAN, "products of codes are over whole groups of activations"
        four = reader.fours_of(span)
        for number in range(SPAN // size):
            multiply(span, number, four)

    reader.for_spans(multiply_span)
    for m in range(height):
        for total, added in zip(totals[m], tile.bias or (), strict=tile.bias is not None):
            total.set(total.value + added)
        tile.finish(m, totals[m])
