"""What all matrix products share: rows cut into register tiles, and how a tile's results are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx

from .isa import Isa
from .layout import BLOCK, num_blocks
from .script import Buffer, Expr, T, Vector, load, store

__all__ = [
    "Blocks",
    "Results",
    "RowsOf",
    "for_heights",
    "for_tiles",
    "in_order",
    "load_block",
    "store_block",
    "zeros",
]


@dataclass(frozen=True)
class Blocks:
    """Blocks from ``first`` on, ``count`` of them; they are stored ``offset`` blocks further, and the inputs
    they meet begin at ``column`` of the rows.
    """

    first: Expr
    count: Expr
    offset: Expr = 0
    column: Expr = 0


@dataclass(frozen=True)
class Results:
    """Where results go: rows of ``outputs``, and the bias added to them, which lies as weights are stored."""

    out: Buffer
    outputs: int
    bias: Buffer | None = None


RowsOf: TypeAlias = Callable[[Expr, int], tuple[list[Expr], list[Expr]]]
"""A tile's rows, by its first and its height: those of its activations, and those of its results."""


def in_order(row: Expr, height: int) -> tuple[list[Expr], list[Expr]]:
    """:data:`RowsOf` where a row's result is a row."""
    rows = [row + m for m in range(height)]
    return rows, rows


def for_tiles(num_rows: Expr, heights: tuple[int, ...], tile: Callable[[int, Expr], None]) -> None:
    """Emit ``tile(height, first row)`` for all rows: the largest height as often as it fits, then halves."""
    largest = heights[0]
    with T.serial(num_rows // largest) as index:
        tile(largest, index * largest)
    for height in heights[1:]:
        with T.If(tirx.floormod(num_rows // height, 2) == 1), T.Then():
            tile(height, num_rows // (2 * height) * (2 * height))


def for_heights(num_rows: Expr, heights: tuple[int, ...], tile: Callable[[int, Expr], None]) -> None:
    """Emit ``tile(height, first row)`` for all rows: each height as often as it fits what is left."""
    first: Expr = T.int64(0)
    for height in heights:
        count = (num_rows - first) // height
        with T.serial(count) as index:
            tile(height, first + index * height)
        first = first + count * height


def load_block(isa: Isa, out: Buffer, row: Expr, block: Expr, outputs: int, parts: list[Vector]) -> None:
    """Take up what :func:`store_block` wrote without a bias."""

    def whole() -> None:
        for part, vector in enumerate(parts):
            vector.set(load(out, (row, block * BLOCK + part * isa.lanes), isa.lanes))

    ragged = outputs % BLOCK
    if not ragged:
        whole()
        return
    with T.If(block < num_blocks(outputs) - 1):
        with T.Then():
            whole()
        with T.Else():
            for vector in parts:
                vector.fill(T.float32(0))
            for lane in range(ragged):
                value = load(out, (row, block * BLOCK + lane))
                parts[lane // isa.lanes].set_lane(lane % isa.lanes, value)


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


def zeros(isa: Isa, height: int) -> list[list[Vector]]:
    """Sums to begin with: each row's 16, in as many vectors as these take."""
    sums = [[Vector("float32", isa.lanes) for _ in range(BLOCK // isa.lanes)] for _ in range(height)]
    for vector in (v for vectors in sums for v in vectors):
        vector.fill(T.float32(0))
    return sums
