"""Products of rows and weights by AMX: eight registers, tiles of 16 lines of 64 bytes, multiplied by twos.

A tile of rows holds 64 bytes of each of 16 rows, as they lie in memory; a tile of weights 16 lines of 64
bytes, one after the other, each of 16 outputs and the four (bytes) or two (bfloat16) inputs that are
multiplied at once. A tile of sums is of 16 rows and 16 outputs, int32 or float32.

By Intel's optimization manual a product of tiles takes 16 cycles, and 52 until its result is there; loading
a tile from the first cache takes 8. So four tiles of sums, 64 rows and one block of outputs, keep the
multiplier busy: a step, which is 64 bytes of the inputs, takes 64 cycles to multiply and 40 to load five
tiles. The inputs are cut into chunks, of which 64 rows stay in the first cache while the blocks of a panel
pass by from the second, at 16 bytes a cycle; between chunks the sums lie in memory, and while the last
chunk of a block is multiplied, the sums of the block before are handed on. What is left is to load and
store sums, some 20 cycles in the 512 of a chunk of eight steps, and what a worker does between panels.
(Counted, not measured.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from .script import Buffer, Expr, T, Vector, load, store

__all__ = [
    "OF_BFLOAT16",
    "OF_BYTES",
    "TILE_ROWS",
    "TileOperands",
    "TileProduct",
    "multiply_tiles",
    "release_tiles",
]

TILE_ROWS = 16
"""Rows of a tile, and outputs of one of weights, and lines of these."""

LINE_BYTES = 64
TILE_BYTES = TILE_ROWS * LINE_BYTES

GROUP_TILES = 4
"""Tiles of rows that are multiplied together, as many as there are tiles of sums."""

FIRST_CACHE_BYTES = 44 << 10
"""What rows, weights and sums of a chunk may take of a first cache: all machines with AMX have 48 KiB."""

_FIRST_WEIGHTS, _FIRST_ROWS = GROUP_TILES, GROUP_TILES + 2  # registers: sums, two of weights, two of rows


@dataclass(frozen=True)
class TileProduct:
    """What an instruction multiplies: its name in LLVM, and the type of sums."""

    instruction: str
    sums: str


OF_BYTES = TileProduct("llvm.x86.tdpbssd", "int32")
"""Signed bytes; sums are exact."""

OF_BFLOAT16 = TileProduct("llvm.x86.tdpbf16ps", "float32")
"""Pairs of bfloat16. Of every 32 inputs, the products of even ones are added by fused steps from zero,
those of odd ones likewise, and then the sum of both to the result; denormals count as zero.
"""


@dataclass(frozen=True)
class TileOperands:
    """Where rows and weights lie: ``steps`` of 64 bytes of rows, and ``blocks`` of them and 16 outputs.

    ``row(number, step)`` is the address of 64 bytes of a row, and rows are ``row_stride`` bytes apart;
    ``weights(block, step)`` that of a tile of weights. There are at most ``most_blocks``. Weights are asked
    for ``ahead`` steps before they are used.
    """

    row: Callable[[Expr, Expr], tirx.Expr]
    row_stride: int
    weights: Callable[[Expr, Expr], tirx.Expr]
    steps: int
    blocks: Expr
    most_blocks: int
    ahead: int = 2


def _emit(name: str, *operands: tirx.Expr) -> None:
    T.evaluate(T.call_llvm_intrin("void", name, *operands))


def _load_tile(register: int, address: tirx.Expr, stride: int) -> None:
    _emit("llvm.x86.tileloadd64", T.int8(register), address, T.int64(stride))


def _ask_for(address: tirx.Expr, line: int, caches: int) -> None:
    """Prefetch one line behind an address, to the first cache (3) or the second (2)."""
    place = T.handle_add_byte_offset(address, line * LINE_BYTES)
    _emit("llvm.prefetch", place, T.int32(0), T.int32(caches), T.int32(1))


def release_tiles() -> None:
    """Emit the end of all use of tiles: their registers are not saved any more when threads change."""
    _emit("llvm.x86.tilerelease")


def _configure(rows: tirx.Expr) -> None:
    """Emit the shape of all tiles: up to 16 ``rows`` (int64) of 64 bytes.

    Tiles of weights have as many lines as rows have words, always 16: so only tiles of rows and sums are
    lower where there are less than 16 rows.
    """
    words = T.alloc_buffer((LINE_BYTES // 4,), "int32")
    height = tirx.Cast("int32", rows)
    numbers = [T.int32(0)] * 16
    numbers[0] = T.int32(1)  # the palette, and no row to begin at
    numbers[4:8] = [T.int32(LINE_BYTES << 16 | LINE_BYTES)] * 4
    numbers[12] = height * T.int32(0x01010101)
    numbers[13] = height * T.int32(0x01010000) + T.int32(0x1010)
    for place, number in enumerate(numbers):
        store(words, place, number)
    _emit("llvm.x86.ldtilecfg", T.address_of(load(words, 0)))


def multiply_tiles(
    product: TileProduct,
    operands: TileOperands,
    num_rows: tirx.Expr,
    finish: Callable[[Expr, Expr, tirx.Expr], None],
) -> None:
    """Emit the products of ``num_rows`` rows (int64, at least one) with all blocks.

    ``finish`` is given each row's number, a block's, and 16 sums. The last tile of rows begins earlier where
    it would reach behind the last row; it computes the same of these rows again.
    """
    rows = Vector("int64", 1)
    rows.set(num_rows)
    _configure(tirx.min(rows.value, T.int64(TILE_ROWS)))
    memory = T.alloc_buffer((operands.most_blocks * GROUP_TILES * TILE_ROWS, TILE_ROWS), product.sums)
    tiles, left = Vector("int64", 1), Vector("int64", 1)
    tiles.set((rows.value + (TILE_ROWS - 1)) // TILE_ROWS)
    left.set(tirx.floormod(tiles.value, GROUP_TILES))
    # One tile alone would wait for each of its products: five are three and two.
    splits = Vector("int64", 1)
    splits.set(tirx.Cast("int64", tirx.all(left.value == 1, tiles.value > GROUP_TILES)))
    whole = Vector("int64", 1)
    whole.set(tiles.value // GROUP_TILES - splits.value)

    def group(height: int, first_tile: Expr) -> None:
        _Group(product, operands, memory, rows.value, height, first_tile * TILE_ROWS, finish).emit()

    with T.serial(whole.value) as index:
        group(GROUP_TILES, index * GROUP_TILES)
    after = whole.value * GROUP_TILES
    with T.If(tirx.any(left.value == 3, splits.value == 1)), T.Then():
        group(3, after)
    with T.If(tirx.any(left.value == 2, splits.value == 1)), T.Then():
        group(2, after + splits.value * 3)
    with T.If(tirx.all(left.value == 1, splits.value == 0)), T.Then():
        group(1, after)


def _chunk_steps(steps: int, height: int) -> int:
    """Steps of a chunk, where ``height`` tiles of rows are multiplied: all are about as long.

    A single tile is no reason to go over the weights in parts: they come from memory, and once.
    """
    if height == 1:
        return steps
    most = (FIRST_CACHE_BYTES - height * TILE_BYTES) // ((height + 1) * TILE_BYTES)
    return -(-steps // -(-steps // most))


class _Group:
    """Up to four tiles of rows from ``first_row``, times all blocks."""

    def __init__(
        self,
        product: TileProduct,
        operands: TileOperands,
        memory: Buffer,
        num_rows: tirx.Expr,
        height: int,
        first_row: Expr,
        finish: Callable[[Expr, Expr, tirx.Expr], None],
    ) -> None:
        self._product, self._operands, self._memory, self._finish = product, operands, memory, finish
        self._num_rows, self._height, self._first_row = num_rows, height, first_row
        last = tirx.max(num_rows - TILE_ROWS, T.int64(0))
        self._starts = [Vector("int64", 1) for _ in range(height)]
        for tile, start in enumerate(self._starts):
            start.set(tirx.min(first_row + tile * TILE_ROWS, last))

    def emit(self) -> None:
        """All chunks of the inputs, with all blocks in each."""
        steps, chunk = self._operands.steps, _chunk_steps(self._operands.steps, self._height)
        whole, last = (steps - 1) // chunk, (steps - 1) % chunk + 1
        if whole:
            self._chunk(0, chunk, begins=True, ends=False)
        if whole > 1:
            with T.serial(whole - 1) as index:
                self._chunk((index + 1) * chunk, chunk, begins=False, ends=False)
        self._chunk(whole * chunk, last, begins=not whole, ends=True)

    def _chunk(self, first: Expr, steps: int, *, begins: bool, ends: bool) -> None:
        with T.serial(self._operands.blocks) as block:
            for tile in range(self._height):
                if begins:
                    _emit("llvm.x86.tilezero", T.int8(tile))
                else:
                    _load_tile(tile, self._sums_of(tile, block), LINE_BYTES)

            share = -(-self._height * TILE_ROWS // self._operands.most_blocks)
            next_rows = Vector("int64", 1)
            next_rows.set(self._share_of_next_rows(block, share, self._height * TILE_ROWS if ends else 0))

            def step(number: Expr, parity: int) -> None:
                self._step(block, first + number, parity, self._weights_ahead(block, first, number, steps))
                for row in range(share):
                    next_step = number if ends else first + steps + number
                    _ask_for(self._operands.row(next_rows.value + row, next_step), 0, 2)

            # Two steps at a time take weights to registers of their own.
            if steps > 1:
                with T.serial(steps // 2) as pair:
                    step(pair * 2, 0)
                    step(pair * 2 + 1, 1)
                    if ends:
                        self._finish_part(block, pair, steps // 2)
            if steps % 2:
                step(steps - 1, 0)
                if steps == 1 and ends:
                    self._finish_part(block, 0, 1)
            for tile in range(self._height):
                place = self._sums_of(tile, block)
                _emit("llvm.x86.tilestored64", T.int8(tile), place, T.int64(LINE_BYTES))
        if ends:
            self._finish_rows(self._operands.blocks - 1, 0, self._height * TILE_ROWS)

    def _step(self, block: Expr, step: Expr, parity: int, later: tirx.Expr) -> None:
        """One step's products, and between them prefetches of the tile of weights at ``later``."""
        weights = _FIRST_WEIGHTS + parity
        _load_tile(weights, self._operands.weights(block, step), LINE_BYTES)
        for tile, start in enumerate(self._starts):
            rows = _FIRST_ROWS + tile % 2
            _load_tile(rows, self._operands.row(start.value, step), self._operands.row_stride)
            _emit(self._product.instruction, T.int8(tile), T.int8(rows), T.int8(weights))
            for line in range(tile, TILE_ROWS, self._height):
                _ask_for(later, line, 3)

    def _weights_ahead(self, block: Expr, first: Expr, step: Expr, steps: int) -> tirx.Expr:
        """The tile of weights some steps after one of a chunk of ``steps``, or then of the next block."""
        later = step + self._operands.ahead
        wraps = tirx.Cast("int64", later >= steps)
        return self._operands.weights(block + wraps, first + later - wraps * steps)

    def _share_of_next_rows(self, block: Expr, share: int, further: int) -> tirx.Expr:
        """The first of the rows that are asked for with a block: those of the next chunk are shared out among
        the blocks, and are the group's own or those of the next group, ``further`` rows behind.
        """
        first = self._first_row + further + block * share
        return tirx.max(tirx.min(first, self._num_rows - share), T.int64(0))

    def _place(self, block: Expr, row: Expr) -> Expr:
        """Where the sums of a row lie; all of a group's are next to each other."""
        return block * (self._height * TILE_ROWS) + (row - self._starts[0].value)

    def _sums_of(self, tile: int, block: Expr) -> tirx.Expr:
        return T.address_of(load(self._memory, (self._place(block, self._starts[tile].value), 0)))

    def _finish_part(self, block: Expr, part: Expr, num_parts: int) -> None:
        """Of the block before, hand on one of ``num_parts`` parts of the rows."""
        share = -(-self._height * TILE_ROWS // num_parts)
        with T.If(block > 0), T.Then():
            self._finish_rows(block - 1, part * share, share)

    def _finish_rows(self, block: Expr, begin: Expr, count: int) -> None:
        """Hand on the sums of ``count`` rows of the group, or as many as there are."""
        last = tirx.min(self._num_rows, self._first_row + self._height * TILE_ROWS)
        first = self._first_row + begin
        with T.serial(tirx.max(T.int64(0), tirx.min(T.int64(count), last - first))) as index:
            row = first + index
            self._finish(row, block, load(self._memory, (self._place(block, row), 0), TILE_ROWS))
