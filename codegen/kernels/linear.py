"""Matrix products ``x @ weight.T`` of rows of codes over blocked weights (:mod:`.layout`).

Each worker takes blocks of 16 outputs; a block's weights are read from memory once, then from cache for each
tile of rows. Tiles are the instruction set's largest, the remainder is cut into halves, so every row count
runs fully unrolled. A row's result does not depend on the tile it falls into: products of codes are exact,
and floats are added in one order, groups ascending.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from .coded import FOURS, ROW_GROUP, CodedMatrix, CodedWeights
from .isa import Isa, fma
from .layout import BLOCK, SPAN, num_blocks, planes_of
from .script import Buffer, Expr, T, Vector, broadcast, cast, kernel, load, symbol
from .tiles import for_tiles, store_block, zeros

__all__ = ["linear_quantized", "multiply_codes"]


def multiply_codes(
    isa: Isa,
    matrix: CodedMatrix,
    x: tuple[Buffer, Buffer, Buffer],
    weights: Sequence[Buffer],
    block: Expr,
    row: Expr,
    height: int,
    finish: Callable[[int, list[Vector]], None],
    *,
    within: tuple[int, Expr] | None = None,
) -> None:
    """Emit one tile: ``height`` rows of activations from ``row`` times block number ``block`` of ``weights``.

    ``x`` is the codes' words of four, scales and sums, as :mod:`.quantize` leaves them; ``finish`` is given
    each row's number within the tile and its 16 results. Where they are ``within`` longer rows, that is these
    rows' elements, and the group that is their first.
    """
    words, x_scales, x_sums = x
    width, first_group = within or (matrix.inputs, 0)
    reader = CodedWeights(isa, matrix, weights, block)
    parts = BLOCK // isa.lanes
    size, zero_point = matrix.sum_size, matrix.zero_point
    subtract = bool(zero_point) and not isa.subtracts_zero_point(zero_point)

    totals = zeros(isa, height)

    def multiply(span: Expr, number: int, four: Callable[[int, int], Vector]) -> None:
        """Add what sum ``number`` of a span is, whose products are exact."""
        x_group = first_group + span
        row_sum_size = matrix.row_sum_size or size
        first_sum = (first_group + span) * (SPAN // row_sum_size) + number * (size // row_sum_size)

        def sum_of_codes(m: int) -> tirx.Expr:
            total = load(x_sums, (row + m, first_sum))
            for further in range(1, size // row_sum_size):
                total = total + load(x_sums, (row + m, first_sum + further))
            return total

        sums = [[Vector("int32", isa.lanes) for _ in range(parts)] for _ in range(height)]
        for m in range(height):
            start = sum_of_codes(m) * T.int32(-zero_point) if subtract else T.int32(0)
            for part in range(parts):
                sums[m][part].fill(start)
        step = max(1, 8 // max(width for width, _ in planes_of(matrix.format.bits)))
        fours = range(number * size // 4, (number + 1) * size // 4)
        for first in fours[::step]:
            for part in range(parts):
                for number_of_four in range(first, first + step):
                    unsigned = reader.whole_numbers(four(number_of_four, part))
                    for m in range(height):
                        column = (first_group + span) * FOURS + number_of_four
                        word = row * (width // 4) + column * height + m
                        activations = broadcast(load(words, word), isa.lanes)
                        sums[m][part].set(
                            isa.dot(sums[m][part].value, unsigned.value, activations, zero_point)
                        )
        group = reader.group(span * (SPAN // size) + number)
        for part in range(parts):
            for m in range(height):
                total, value = totals[m][part], cast("float32", isa.lanes, sums[m][part].value)
                x_scale = load(x_scales, (row + m, x_group))
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
        finish(m, totals[m])


def linear_quantized(isa: Isa, name: str, matrix: CodedMatrix, has_bias: bool) -> tirx.PrimFunc:
    """Codes of activations times codes of weights, exact within a group.

    Arguments: activations as :func:`.quantize.quantize_rows` leaves them (codes int8 ``[m, inputs]``,
    scales float32 ``[m, groups]`` and sums int32 ``[m, sums]``), the matrix' own, a bias float32 ``[blocks *
    16]`` if there is one, and the result float32 ``[m, outputs]``.
    """
    outputs, inputs = matrix.outputs, matrix.inputs

    def body(x_codes: Buffer, x_scales: Buffer, x_sums: Buffer, *rest: Buffer) -> None:
        weights, (*bias, out) = rest[: matrix.num_arguments], rest[matrix.num_arguments :]
        num_rows = x_codes.shape[0]
        words = T.decl_buffer((num_rows * (inputs // 4),), "int32", data=x_codes.data)
        with T.parallel(num_blocks(outputs)) as block:

            def tile(height: int, row: Expr) -> None:
                def finish(m: int, parts: list[Vector]) -> None:
                    store_block(isa, out, row + m, block, outputs, (bias[0], block) if bias else None, parts)

                x = words, x_scales, x_sums
                multiply_codes(isa, matrix, x, weights, block, row, height, finish)

            for_tiles(num_rows, isa.integer_rows, tile)

    m, blocks = symbol("m"), num_blocks(outputs)
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("x_codes", (m, inputs), "int8"),
        ("x_scales", (m, inputs // ROW_GROUP), "float32"),
        ("x_sums", (m, matrix.num_sums), "int32"),
        *matrix.arguments(blocks),
        *([("bias", (blocks * BLOCK,), "float32")] if has_bias else []),
        ("out", (m, outputs), "float32"),
    ]
    return kernel(name, arguments, body)
