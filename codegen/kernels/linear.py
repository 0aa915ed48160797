"""Matrix products ``x @ weight.T`` over blocked weights (:mod:`.layout`).

Each worker takes blocks of 16 outputs; a block's weights are read from memory once, then from cache for each
tile of rows. Tiles are the instruction set's largest, the remainder is cut into halves, so every row count
runs fully unrolled. A row's result does not depend on the tile it falls into: products of codes are exact,
and floats are added in one order, inputs (or groups) ascending.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from tvm import tirx

from .coded import FOURS, PREFETCH_BYTES, ROW_GROUP, CodedMatrix, CodedWeights, Group
from .isa import Isa, fma
from .layout import BLOCK, SPAN, num_blocks, planes_of
from .rows import Rows, load_float, load_rows
from .script import (
    Buffer,
    Expr,
    T,
    Vector,
    broadcast,
    cast,
    kernel,
    load,
    prefetch,
    store,
    symbol,
)

__all__ = [
    "FloatMatrix",
    "for_tiles",
    "linear_float",
    "linear_quantized",
    "multiply_codes",
    "multiply_floats",
    "store_block",
]


def for_tiles(num_rows: Expr, heights: tuple[int, ...], tile: Callable[[int, Expr], None]) -> None:
    """Emit ``tile(height, first row)`` for all rows: the largest height as often as it fits, then halves."""
    largest = heights[0]
    with T.serial(num_rows // largest) as index:
        tile(largest, index * largest)
    for height in heights[1:]:
        with T.If(tirx.floormod(num_rows // height, 2) == 1), T.Then():
            tile(height, num_rows // (2 * height) * (2 * height))


@dataclass(frozen=True)
class FloatMatrix:
    """A weight of floats ``[outputs, inputs]``; uint16 holds bfloat16."""

    outputs: int
    inputs: int
    dtype: str

    def arguments(self, blocks: int) -> list[tuple[str, tuple[Expr, ...], str]]:
        """A kernel's arguments that hold ``blocks`` of such weights."""
        return [("weights", (blocks, self.inputs, BLOCK), self.dtype)]

    @property
    def num_arguments(self) -> int:
        """How many these are."""
        return 1


def store_block(
    isa: Isa,
    out: Buffer,
    row: Expr,
    block: Expr,
    outputs: int,
    bias: tuple[Buffer, Expr] | None,
    parts: list[Vector],
) -> None:
    """Write a row's 16 results, fewer at the ragged end; a bias comes with its block's number."""
    if bias is not None:
        biases, bias_block = bias
        for part, vector in enumerate(parts):
            vector.set(vector.value + load(biases, (bias_block * BLOCK + part * isa.lanes,), isa.lanes))

    def whole() -> None:
        for part, vector in enumerate(parts):
            store(out, (row, block * BLOCK + part * isa.lanes), vector.value, isa.lanes)

    ragged = outputs % BLOCK
    if not ragged:
        whole()
        return
    with T.If(block < num_blocks(outputs) - 1):
        with T.Then():
            whole()
        with T.Else():
            for lane in range(ragged):
                store(out, (row, block * BLOCK + lane), parts[lane // isa.lanes].lane(lane % isa.lanes))


def _zeros(isa: Isa, height: int) -> list[list[Vector]]:
    """Sums to begin with: each row's 16, in as many vectors as these take."""
    sums = [[Vector("float32", isa.lanes) for _ in range(BLOCK // isa.lanes)] for _ in range(height)]
    for vector in (v for vectors in sums for v in vectors):
        vector.fill(T.float32(0))
    return sums


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

    totals = _zeros(isa, height)

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


def _multiply_decoded(
    isa: Isa,
    matrix: CodedMatrix,
    activation: Callable[[int, Expr], tirx.Expr],
    weights: Sequence[Buffer],
    block: Expr,
    height: int,
    finish: Callable[[int, list[Vector]], None],
) -> None:
    """:func:`multiply_floats` by a matrix in a format, whose elements are widened to floats on the way."""
    reader = CodedWeights(isa, matrix, weights, block)
    parts, group_size = BLOCK // isa.lanes, min(matrix.format.group_size or SPAN, SPAN)
    totals = _zeros(isa, height)

    def multiply(span: Expr, columns: range, group: Group, four: Callable[[int, int], Vector]) -> None:
        """Add the products of columns of one group; where there is no offset, the scale is for their sum.

        Columns with even and with odd numbers are added up apart, so that no addition waits for another.
        """
        apart = group.zeros is not None or group.minima is not None
        sums = [totals] if apart else [_zeros(isa, height), _zeros(isa, height)]
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


def multiply_floats(
    isa: Isa,
    matrix: FloatMatrix | CodedMatrix,
    activation: Callable[[int, Expr], tirx.Expr],
    buffers: Sequence[Buffer],
    block: Expr,
    height: int,
    finish: Callable[[int, list[Vector]], None],
) -> None:
    """Emit one tile: ``height`` rows times block number ``block`` of a matrix in ``buffers``.

    ``activation`` gives a row's (by its number within the tile) element of a column, and ``finish`` is given
    its 16 results.
    """
    if isinstance(matrix, CodedMatrix):
        _multiply_decoded(isa, matrix, activation, buffers, block, height, finish)
        return
    (weights,) = buffers
    inputs, parts, dtype = matrix.inputs, BLOCK // isa.lanes, matrix.dtype
    item_bytes = 4 if dtype == "float32" else 2
    ahead = PREFETCH_BYTES // (BLOCK * item_bytes)
    totals = _zeros(isa, height)

    def step(column: Expr) -> None:
        for part in range(parts):
            weight = Vector("float32", isa.lanes)
            weight.set(load_float(weights, (block, column, part * isa.lanes), isa.lanes, dtype))
            for m in range(height):
                value = broadcast(activation(m, column), isa.lanes)
                totals[m][part].set(fma(isa.lanes, value, weight.value, totals[m][part].value))

    unroll = 4
    with T.serial(inputs // unroll) as index:
        for line in range(unroll * BLOCK * item_bytes // 64):
            prefetch(weights, (block, index * unroll + ahead + line * (64 // (BLOCK * item_bytes)), 0))
        for j in range(unroll):
            step(index * unroll + j)
    for column in range(inputs // unroll * unroll, inputs):
        step(column)
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


def linear_float(
    isa: Isa, name: str, matrix: FloatMatrix | CodedMatrix, x: Rows, has_bias: bool
) -> tirx.PrimFunc:
    """Weights times float32 activations.

    Arguments: ``x`` float32 ``[m, x.stride]``, the matrix' own, a bias float32 ``[blocks * 16]`` if there is
    one, and the result float32 ``[m, outputs]``.
    """
    outputs = matrix.outputs

    def body(rows: Buffer, *rest: Buffer) -> None:
        weights, (*bias, out) = rest[: matrix.num_arguments], rest[matrix.num_arguments :]
        with T.parallel(num_blocks(outputs)) as block:

            def tile(height: int, row: Expr) -> None:
                def activation(m: int, column: Expr) -> tirx.Expr:
                    return load_rows(rows, x, row + m, column)

                def finish(m: int, parts: list[Vector]) -> None:
                    store_block(isa, out, row + m, block, outputs, (bias[0], block) if bias else None, parts)

                multiply_floats(isa, matrix, activation, weights, block, height, finish)

            for_tiles(rows.shape[0], isa.float_rows, tile)

    m, blocks = symbol("m"), num_blocks(outputs)
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("x", (m, x.stride), "float32"),
        *matrix.arguments(blocks),
        *([("bias", (blocks * BLOCK,), "float32")] if has_bias else []),
        ("out", (m, outputs), "float32"),
    ]
    return kernel(name, arguments, body)
