"""Rows of floats times blocked weights of floats: how the registers and caches of a machine are filled.

A worker takes a panel of a few blocks of outputs, and of it one chunk of inputs after the other, whose
weights stay in the second cache while tiles of rows go over them; what is added up so far waits among the
results. A tile is as many rows by blocks as fill the registers, the remaining rows are cut into lower ones.

A row's result does not depend on the tile it falls into: its products are added one after the other, inputs
ascending, but that of each pair of bfloat16 weights the second comes first, as in the instruction that
multiplies pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx

from .isa import DotsBfloat16, Isa, fma
from .layout import BLOCK, num_pairs
from .rows import RoundedRows, Rows, load_float, load_rows
from .script import Buffer, Expr, T, Vector, broadcast, load, prefetch, reinterpret, vector_type
from .tiles import Blocks, Results, RowsOf, for_heights, in_order, load_block, store_block
from .tiling import find_float_tiling

__all__ = [
    "PREFETCH_BYTES",
    "FloatMatrix",
    "FloatProduct",
    "blocked_element",
    "helpers_for",
    "rows_argument",
]

PREFETCH_BYTES = 4096
"""How far ahead weights are asked for."""

_LINE_BYTES = 64

Sums: TypeAlias = list[list[list[Vector]]]
"""A tile's: by block, row, and part of a block."""


@dataclass(frozen=True)
class FloatMatrix:
    """A weight of floats ``[outputs, inputs]``; uint16 holds bfloat16."""

    outputs: int
    inputs: int
    dtype: str

    @property
    def is_paired(self) -> bool:
        """Whether two neighbouring inputs' weights lie together."""
        return self.dtype == "uint16"

    def arguments(self, blocks: int) -> list[tuple[str, tuple[Expr, ...], str]]:
        """A kernel's arguments that hold ``blocks`` of such weights."""
        inside = (num_pairs(self.inputs), BLOCK, 2) if self.is_paired else (self.inputs, BLOCK)
        return [("weights", (blocks, *inside), self.dtype)]

    @property
    def num_arguments(self) -> int:
        """How many these are."""
        return 1


def rows_argument(x: Rows | RoundedRows, num_rows: Expr) -> tuple[str, tuple[Expr, ...], str]:
    """A kernel's argument that holds activations."""
    return ("x", (num_rows, x.stride), "uint16" if isinstance(x, RoundedRows) else "float32")


def helpers_for(isa: Isa, x: Rows | RoundedRows) -> str:
    """What a kernel that multiplies ``x`` is given as ``helpers``."""
    return isa.helpers if isinstance(x, RoundedRows) else ""


def blocked_element(matrix: FloatMatrix, weights: Buffer, block: Expr, column: Expr, lane: Expr) -> tirx.Expr:
    """One element of a block of weights."""
    index: tuple[Expr, ...] = (block, column, lane)
    if matrix.is_paired:
        index = (block, column // 2, lane, tirx.floormod(column, 2))
    return load_float(weights, index, 1, matrix.dtype)


class FloatProduct:
    """Activations ``rows``, seen as ``x``, times a matrix whose blocks are ``weights``.

    A *step* is an input, or a pair of them where weights are in pairs.
    """

    def __init__(
        self,
        isa: Isa,
        matrix: FloatMatrix,
        x: Rows | RoundedRows,
        rows: Buffer,
        weights: Buffer,
    ) -> None:
        self._isa, self._matrix, self._x = isa, matrix, x
        self._rows, self._weights = rows, weights
        self._width, self._parts = 1, BLOCK // isa.lanes
        if matrix.is_paired:
            self._width = 2
            shape = (weights.shape[0] * num_pairs(matrix.inputs) * BLOCK,)
            self._weights = T.decl_buffer(shape, "int32", data=weights.data)
        if isinstance(x, RoundedRows):
            self._rows = T.decl_buffer((rows.shape[0] * (x.stride // 2),), "int32", data=rows.data)
        num_weights, rounded = matrix.outputs * matrix.inputs, isinstance(x, RoundedRows)
        self.tiling = find_float_tiling(isa, num_weights, paired=matrix.is_paired, rounded=rounded)
        self._blocks = self.tiling.blocks
        # Rows that were rounded are filled up with zeros; else the last of an odd number of inputs is apart.
        self._half_step = matrix.inputs % self._width == 1 and isinstance(x, Rows)
        self._num_steps = (matrix.inputs + self._width - 1 - self._half_step) // self._width
        self._steps_stored = num_pairs(matrix.inputs) if matrix.is_paired else matrix.inputs
        self._num_chunks = max(1, -(-self._num_steps // self.tiling.steps))

    def multiply(self, panel: Blocks, num_rows: Expr, results: Results, rows_of: RowsOf = in_order) -> None:
        """Emit the products of ``num_rows`` rows with a panel."""

        def over(chunk: Expr) -> None:
            for_heights(
                num_rows,
                self.tiling.heights,
                lambda height, row: self._tiles(panel, chunk, height, rows_of(row, height), results),
            )

        if self._num_chunks == 1:
            over(T.int64(0))
            return
        with T.serial(T.int64(self._num_chunks)) as chunk:
            over(chunk)

    def _tiles(
        self, panel: Blocks, chunk: Expr, height: int, rows: tuple[list[Expr], list[Expr]], results: Results
    ) -> None:
        """Emit the tiles of rows as high as these."""
        isa, (sources, targets) = self._isa, rows
        first, count = chunk * self.tiling.steps, self._num_steps
        if self._num_chunks > 1:
            count = tirx.min(T.int64(self.tiling.steps), self._num_steps - first)

        def factor(m: int, step: Expr, place: int) -> tirx.Expr:
            return self._factor(sources[m], panel.column, step, place)

        with T.serial((panel.count + self._blocks - 1) // self._blocks) as index:
            # At an odd number's end, the last block is computed twice.
            blocks = [
                panel.first + tirx.min(index * self._blocks + number, panel.count - 1)
                for number in range(self._blocks)
            ]
            stored = [panel.offset + block for block in blocks]
            sums = [
                [[Vector("float32", isa.lanes) for _ in range(self._parts)] for _ in range(height)]
                for _ in blocks
            ]

            def start() -> None:
                for parts in (parts for rows in sums for parts in rows):
                    for vector in parts:
                        vector.fill(T.float32(0))

            def go_on() -> None:
                for block, block_sums in zip(blocks, sums, strict=True):
                    for target, parts in zip(targets, block_sums, strict=True):
                        load_block(isa, results.out, target, block, results.outputs, parts)

            def end() -> None:
                if self._half_step:
                    self._add(sums, stored, T.int64(self._num_steps), factor, (0,))
                if results.bias is not None:
                    self._add_bias(sums, stored, results.bias)

            if self._num_chunks == 1:
                start()
            else:
                with T.If(chunk == 0):
                    with T.Then():
                        start()
                    with T.Else():
                        go_on()
            self._add_up(sums, stored, first, count, factor)
            if self._num_chunks == 1:
                end()
            elif self._half_step or results.bias is not None:
                with T.If(chunk == self._num_chunks - 1), T.Then():
                    end()
            for block, block_sums in zip(blocks, sums, strict=True):
                for target, parts in zip(targets, block_sums, strict=True):
                    store_block(isa, results.out, target, block, results.outputs, None, parts)

    def _add_up(
        self,
        sums: Sums,
        stored: list[Expr],
        first: Expr,
        count: Expr,
        factor: Callable[[int, Expr, int], tirx.Expr],
    ) -> None:
        """Add the products of a chunk's steps, several in each turn where the rows are few."""
        unroll = max(1, 8 // len(sums[0]))
        order = (1, 0) if self._width == 2 and isinstance(self._x, Rows) else (0,)
        line = BLOCK * (2 if self._matrix.dtype == "float16" else 4)
        ahead = PREFETCH_BYTES // line
        with T.serial(count // unroll) as index:
            for j in range(unroll):
                step = first + index * unroll + j
                for block in stored:
                    if j * line % _LINE_BYTES == 0:
                        self._prefetch(block, step + ahead)
                self._add(sums, stored, step, factor, order)
        if self._num_steps % unroll:
            with T.serial(count % unroll) as index:
                self._add(sums, stored, first + count // unroll * unroll + index, factor, order)

    def _add(
        self,
        sums: Sums,
        stored: list[Expr],
        step: Expr,
        factor: Callable[[int, Expr, int], tirx.Expr],
        order: Sequence[int],
    ) -> None:
        """Add a step's products, of its inputs in this order."""
        lanes = self._isa.lanes
        for place in order:
            weights = [
                [self._variable(self._weight(block, step, part, place)) for part in range(self._parts)]
                for block in stored
            ]
            for m in range(len(sums[0])):
                value = self._variable(broadcast(factor(m, step, place), lanes))
                for block_sums, block_weights in zip(sums, weights, strict=True):
                    for total, weight in zip(block_sums[m], block_weights, strict=True):
                        total.set(self._multiply_add(total.value, weight.value, value.value))

    def _add_bias(self, sums: Sums, stored: list[Expr], bias: Buffer) -> None:
        for block_sums, block in zip(sums, stored, strict=True):
            for part in range(self._parts):
                added = load(bias, (block * BLOCK + part * self._isa.lanes,), self._isa.lanes)
                for parts in block_sums:
                    parts[part].set(parts[part].value + added)

    def _variable(self, value: tirx.Expr) -> Vector:
        """A vector of what is multiplied: floats, or pairs of bfloat16."""
        vector = Vector("int32" if isinstance(self._x, RoundedRows) else "float32", self._isa.lanes)
        vector.set(value)
        return vector

    def _multiply_add(self, total: tirx.Expr, weight: tirx.Expr, factor: tirx.Expr) -> tirx.Expr:
        if isinstance(self._x, RoundedRows):
            assert isinstance(self._isa, DotsBfloat16), "rows are rounded for what multiplies such"
            return self._isa.dot_bfloat16(total, weight, factor)
        return fma(self._isa.lanes, factor, weight, total)

    def _weight(self, block: Expr, step: Expr, part: int, place: int) -> tirx.Expr:
        """A vector of weights of a step; of a pair's the first or second, unless both are taken."""
        lanes = self._isa.lanes
        if not self._matrix.is_paired:
            return load_float(self._weights, (block, step, part * lanes), lanes, self._matrix.dtype)
        words = load(self._weights, ((block * self._steps_stored + step) * BLOCK + part * lanes,), lanes)
        if isinstance(self._x, RoundedRows):
            return words
        if place == 0:
            bits = T.shift_left(words, broadcast(T.int32(16), lanes))
        else:
            bits = T.bitwise_and(words, broadcast(T.int32(-(1 << 16)), lanes))
        return reinterpret(vector_type("float32", lanes), bits)

    def _prefetch(self, block: Expr, step: Expr) -> None:
        if self._matrix.is_paired:
            prefetch(self._weights, ((block * self._steps_stored + step) * BLOCK,))
        else:
            prefetch(self._weights, (block, step, 0))

    def _factor(self, source: Expr, column: Expr, step: Expr, place: int) -> tirx.Expr:
        """What meets a step's weights, or those of a place in it, of a row with inputs from ``column`` on."""
        if isinstance(self._x, RoundedRows):
            return load(self._rows, (source * (self._x.stride // 2) + column // 2 + step,))
        return load_rows(self._rows, self._x, source, column + step * self._width + place)
