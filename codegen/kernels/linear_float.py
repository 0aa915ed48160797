"""Matrix products ``x @ weight.T`` of rows of floats over blocked weights (:mod:`.layout`).

Each worker takes blocks of 16 outputs; a block's weights are read from memory once, then from cache for each
tile of rows. A row's result does not depend on the tile it falls into: floats are added in one order, inputs
(or groups) ascending.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from .coded import PREFETCH_BYTES, CodedMatrix
from .isa import Isa, fma
from .layout import BLOCK, num_blocks
from .linear_decoded import multiply_decoded
from .rows import Rows, load_float, load_rows
from .script import Buffer, Expr, T, Vector, broadcast, kernel, prefetch, symbol
from .tiles import for_tiles, store_block, zeros

__all__ = ["FloatMatrix", "linear_float", "multiply_floats"]


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
        multiply_decoded(isa, matrix, activation, buffers, block, height, finish)
        return
    (weights,) = buffers
    inputs, parts, dtype = matrix.inputs, BLOCK // isa.lanes, matrix.dtype
    item_bytes = 4 if dtype == "float32" else 2
    ahead = PREFETCH_BYTES // (BLOCK * item_bytes)
    totals = zeros(isa, height)

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
