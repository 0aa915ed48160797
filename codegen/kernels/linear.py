"""Matrix products ``x @ weight.T`` over blocked weights (:mod:`.layout`).

Each worker takes blocks of 16 outputs; a block's weights are read from memory once, then from cache for each
tile of rows. Tiles are the instruction set's largest, the remainder is cut into halves, so every row count
runs fully unrolled. A row's result does not depend on the tile it falls into: products of codes are exact,
and floats are added in one order, inputs (or groups) ascending.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from .isa import Isa, fma
from .layout import BLOCK, num_blocks
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
    reinterpret,
    store,
    symbol,
)

__all__ = [
    "PREFETCH_BYTES",
    "CodedMatrix",
    "FloatMatrix",
    "for_tiles",
    "linear_float",
    "linear_quantized",
    "multiply_codes",
    "multiply_floats",
    "store_block",
]

PREFETCH_BYTES = 2048
"""How far ahead of use weights are asked for, in bytes of the stream of codes."""


def for_tiles(num_rows: Expr, heights: tuple[int, ...], tile: Callable[[int, Expr], None]) -> None:
    """Emit ``tile(height, first row)`` for all rows: the largest height as often as it fits, then halves."""
    largest = heights[0]
    with T.serial(num_rows // largest) as index:
        tile(largest, index * largest)
    for height in heights[1:]:
        with T.If(tirx.floormod(num_rows // height, 2) == 1), T.Then():
            tile(height, num_rows // (2 * height) * (2 * height))


@dataclass(frozen=True)
class CodedMatrix:
    """A weight of codes ``[outputs, inputs]``, in groups along the inputs."""

    outputs: int
    inputs: int
    bits: int
    group_size: int
    scale_type: str

    @property
    def groups(self) -> int:
        """Groups in a row."""
        return self.inputs // self.group_size

    @property
    def block_bytes(self) -> int:
        """Bytes of a block's codes."""
        return self.inputs * BLOCK * self.bits // 8


@dataclass(frozen=True)
class FloatMatrix:
    """A weight of floats ``[outputs, inputs]``; uint16 holds bfloat16."""

    outputs: int
    inputs: int
    dtype: str


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


def multiply_codes(
    isa: Isa,
    matrix: CodedMatrix,
    x: tuple[Buffer, Buffer, Buffer],
    weights: tuple[Buffer, Buffer],
    block: Expr,
    row: Expr,
    height: int,
    finish: Callable[[int, list[Vector]], None],
    *,
    within: tuple[int, Expr] | None = None,
) -> None:
    """Emit one tile: ``height`` rows of activations from ``row`` times block number ``block`` of ``weights``.

    ``x`` is the codes' words of four, scales and sums, as :mod:`.quantize` leaves them, and ``weights`` codes
    and scales; ``finish`` is given each row's number within the tile and its 16 results. Where they are
    ``within`` longer rows, that is these rows' elements, and the group that is their first.
    """
    words, x_scales, x_sums = x
    codes, scales = weights
    bits, group_size = matrix.bits, matrix.group_size
    width, first_group = within or (matrix.inputs, 0)
    zero_point, group_bytes = 1 << (bits - 1), group_size * BLOCK * bits // 8
    parts = BLOCK // isa.lanes
    subtract = not isa.subtracts_zero_point(zero_point)

    def unpacked(offset: Expr) -> list[tuple[int, Vector]]:
        """The bytes at ``offset`` as vectors of unsigned codes, each with the number of its four inputs."""
        raw = Vector("uint8", isa.bytes)
        raw.set(load(codes, (block, offset), isa.bytes))
        if bits == 8:
            return [(0, raw)]
        low, high = Vector("uint8", isa.bytes), Vector("uint8", isa.bytes)
        nibble = broadcast(T.uint8(15), isa.bytes)
        low.set(T.bitwise_and(raw.value, nibble))
        words = reinterpret(f"uint16x{isa.bytes // 2}", raw.value)
        shifted = T.shift_right(words, broadcast(T.uint16(4), isa.bytes // 2))
        high.set(T.bitwise_and(reinterpret(f"uint8x{isa.bytes}", shifted), nibble))
        return [(0, low), (1, high)]

    totals = [[Vector("float32", isa.lanes) for _ in range(parts)] for _ in range(height)]
    for vector in (v for vectors in totals for v in vectors):
        vector.fill(T.float32(0))
    with T.serial(matrix.groups) as group:
        for line in range(group_bytes // 64):
            prefetch(codes, (block, group * group_bytes + PREFETCH_BYTES + 64 * line))
        prefetch(scales, (block, group + PREFETCH_BYTES // group_bytes, 0))
        sums = [[Vector("int32", isa.lanes) for _ in range(parts)] for _ in range(height)]
        for m in range(height):
            total = load(x_sums, (row + m, first_group + group))
            start = total * T.int32(-zero_point) if subtract else T.int32(0)
            for part in range(parts):
                sums[m][part].fill(start)
        for step in range(group_bytes // (4 * BLOCK)):
            for part in range(parts):
                offset = group * group_bytes + step * 4 * BLOCK + part * isa.bytes
                for half, unsigned in unpacked(offset):
                    fours = step * (8 // bits) + half
                    for m in range(height):
                        column = (first_group + group) * (group_size // 4) + fours
                        first = row * (width // 4) + column * height + m
                        activations = broadcast(load(words, first), isa.lanes)
                        sums[m][part].set(
                            isa.dot(sums[m][part].value, unsigned.value, activations, zero_point)
                        )
        for part in range(parts):
            scale = Vector("float32", isa.lanes)
            scale.set(load_float(scales, (block, group, part * isa.lanes), isa.lanes, matrix.scale_type))
            for m in range(height):
                scaled = cast("float32", isa.lanes, sums[m][part].value) * broadcast(
                    load(x_scales, (row + m, first_group + group)), isa.lanes
                )
                totals[m][part].set(fma(isa.lanes, scaled, scale.value, totals[m][part].value))
    for m in range(height):
        finish(m, totals[m])


def multiply_floats(
    isa: Isa,
    matrix: FloatMatrix,
    activation: Callable[[int, Expr], tirx.Expr],
    weights: Buffer,
    block: Expr,
    height: int,
    finish: Callable[[int, list[Vector]], None],
) -> None:
    """Emit one tile: ``height`` rows times block number ``block`` of ``weights``.

    ``activation`` gives a row's (by its number within the tile) element of a column, and ``finish`` is given
    its 16 results.
    """
    inputs, parts, dtype = matrix.inputs, BLOCK // isa.lanes, matrix.dtype
    item_bytes = 4 if dtype == "float32" else 2
    ahead = PREFETCH_BYTES // (BLOCK * item_bytes)
    totals = [[Vector("float32", isa.lanes) for _ in range(parts)] for _ in range(height)]
    for vector in (v for vectors in totals for v in vectors):
        vector.fill(T.float32(0))

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


def linear_quantized(
    isa: Isa,
    name: str,
    outputs: int,
    inputs: int,
    bits: int,
    group_size: int,
    scale_type: str,
    has_bias: bool,
) -> tirx.PrimFunc:
    """Codes of activations times codes of weights, exact within a group.

    Arguments: activations as :func:`.quantize.quantize_rows` leaves them (codes int8 ``[m, inputs]``,
    scales float32 and sums int32 ``[m, groups]``), weights (codes uint8, scales), a bias float32 ``[blocks
    * 16]`` if there is one, and the result float32 ``[m, outputs]``.
    """
    matrix = CodedMatrix(outputs, inputs, bits, group_size, scale_type)

    def body(
        x_codes: Buffer, x_scales: Buffer, x_sums: Buffer, codes: Buffer, scales: Buffer, *rest: Buffer
    ) -> None:
        out, bias = rest[-1], rest[0] if has_bias else None
        num_rows = x_codes.shape[0]
        words = T.decl_buffer((num_rows * (inputs // 4),), "int32", data=x_codes.data)
        with T.parallel(num_blocks(outputs)) as block:

            def tile(height: int, row: Expr) -> None:
                def finish(m: int, parts: list[Vector]) -> None:
                    store_block(
                        isa, out, row + m, block, outputs, None if bias is None else (bias, block), parts
                    )

                multiply_codes(
                    isa, matrix, (words, x_scales, x_sums), (codes, scales), block, row, height, finish
                )

            for_tiles(num_rows, isa.integer_rows, tile)

    m, blocks = symbol("m"), num_blocks(outputs)
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("x_codes", (m, inputs), "int8"),
        ("x_scales", (m, matrix.groups), "float32"),
        ("x_sums", (m, matrix.groups), "int32"),
        ("codes", (blocks, matrix.block_bytes), "uint8"),
        ("scales", (blocks, matrix.groups, BLOCK), scale_type),
        *([("bias", (blocks * BLOCK,), "float32")] if has_bias else []),
        ("out", (m, outputs), "float32"),
    ]
    return kernel(name, arguments, body)


def linear_float(isa: Isa, name: str, outputs: int, x: Rows, dtype: str, has_bias: bool) -> tirx.PrimFunc:
    """Float weights times float32 activations.

    Arguments: ``x`` float32 ``[m, x.stride]``, the weights (``dtype``; uint16 holds bfloat16), a bias float32
    ``[blocks * 16]`` if there is one, and the result float32 ``[m, outputs]``.
    """
    matrix = FloatMatrix(outputs, x.width, dtype)

    def body(rows: Buffer, weights: Buffer, *rest: Buffer) -> None:
        out, bias = rest[-1], rest[0] if has_bias else None
        with T.parallel(num_blocks(outputs)) as block:

            def tile(height: int, row: Expr) -> None:
                def activation(m: int, column: Expr) -> tirx.Expr:
                    return load_rows(rows, x, row + m, column)

                def finish(m: int, parts: list[Vector]) -> None:
                    store_block(
                        isa, out, row + m, block, outputs, None if bias is None else (bias, block), parts
                    )

                multiply_floats(isa, matrix, activation, weights, block, height, finish)

            for_tiles(rows.shape[0], isa.float_rows, tile)

    m, blocks = symbol("m"), num_blocks(outputs)
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("x", (m, x.stride), "float32"),
        ("weights", (blocks, matrix.inputs, BLOCK), dtype),
        *([("bias", (blocks * BLOCK,), "float32")] if has_bias else []),
        ("out", (m, outputs), "float32"),
    ]
    return kernel(name, arguments, body)
