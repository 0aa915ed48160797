"""How products are cut: register tiles, panels, and from how many rows on these are used.

A small model of a machine says so: how many registers it has, how large its caches are, and how many
instructions each way takes. What was measured on one kind of machine can be said instead
(:attr:`.isa.Isa.tiling`).
"""

from __future__ import annotations

from dataclasses import dataclass

from .coded import FOURS
from .isa import Isa, Tiling
from .layout import BLOCK

__all__ = ["LINE_INSTRUCTIONS", "FloatTiling", "find_float_tiling", "find_tiling"]

LINE_INSTRUCTIONS = 3
"""What it takes to turn the bytes of a register, to multiply them by a scale and to move their zero."""

_SUM_INSTRUCTIONS = 1
"""What it takes to add a row's sums of a span, scaled: what they begin with is loaded beside products."""

_PANEL_TURNS = 6
"""How many register tiles of rows unpack a block's weights in the time it takes to write a panel of them."""

_MOST_PANEL_BLOCKS = 4
"""Rows pass once for each panel. From here on they come fast enough from the last cache, and more panels
share the work out better."""


def find_tiling(isa: Isa, inputs: int) -> Tiling:
    """How a matrix of ``inputs`` is cut for a machine, where its rows are whole numbers."""
    if isa.tiling is not None:
        return isa.tiling
    parts = BLOCK // isa.lanes
    # Of a block: its weights, their scales and zeros, and one register that holds codes of rows.
    most_rows = (isa.num_registers - 3 * parts - 1) // parts
    rows = 1 << (most_rows.bit_length() - 1)
    widened = FOURS * LINE_INSTRUCTIONS // _SUM_INSTRUCTIONS
    panel_blocks = isa.caches.l2_bytes // 2 // (BLOCK * inputs)
    return Tiling(
        rows=rows,
        widened_rows=1 << widened.bit_length() if widened & (widened - 1) else widened,
        panel_rows=_PANEL_TURNS * rows,
        panel_blocks=max(1, min(panel_blocks, _MOST_PANEL_BLOCKS)),
    )


_LINE_BYTES = 64

_WAYS = 8
"""Lines that a first cache keeps, at least, of addresses a power of two apart."""

_SMALL_MATRIX, _LOW_TILE = 1 << 16, 4
"""Weights of a matrix, so few that nothing is gained by tiles of more rows than a few, whose code takes
long to compile.
"""

_MOST_STEPS = 512
"""Steps of a chunk, in which loading and storing a tile's sums is no longer felt."""

_MOST_FLOAT_BLOCKS = 8
"""Blocks of a panel: while these pass by, a tile's rows stay in the first cache."""

_FEW_ROWS = 32
"""Up to so many rows, reading weights is what takes the time."""


@dataclass(frozen=True)
class FloatTiling:
    """How products of floats are cut.

    ``heights`` are of register tiles of ``blocks`` blocks, largest first; ``steps`` are those of a chunk, a
    line of a block's weights each. A panel has ``panel_blocks`` where there are more rows than ``few_rows``,
    and else those of a tile, so that memory is read in the order in which it lies.
    """

    heights: tuple[int, ...]
    blocks: int
    steps: int
    panel_blocks: int
    few_rows: int = _FEW_ROWS


def find_float_tiling(isa: Isa, num_weights: int, *, paired: bool, rounded: bool) -> FloatTiling:
    """How a matrix of so many weights is cut for a machine, where they are ``paired``, and where rows are
    ``rounded`` to bfloat16.

    Sums fill the registers, a tile's rows of a chunk the first cache, a panel's weights of it a part of the
    second. Rows that were rounded lie apart; float32 ones may be a power of two apart, so that a cache keeps
    only few at a time.
    """
    blocks = max(1, 2 * isa.lanes // BLOCK)
    vectors = blocks * (BLOCK // isa.lanes)
    # A vector is a factor's; pairs that are taken apart want a mask, and vectors on their way.
    others = 1 + (vectors + 2 if paired and not rounded else 0)
    highest = (isa.num_registers - vectors - others) // vectors
    if highest > _WAYS:
        highest = highest // 4 * 4 if rounded else _WAYS
    if num_weights < _SMALL_MATRIX:
        highest = min(highest, _LOW_TILE)
    lower = (1 << power for power in reversed(range(8)))
    steps = min(_MOST_STEPS, isa.caches.l1d_bytes * 7 // 8 // (highest * 4) // 64 * 64)
    panel_blocks = isa.caches.l2_bytes // 4 // (steps * _LINE_BYTES) // blocks * blocks
    return FloatTiling(
        heights=(highest, *(height for height in lower if 3 * height <= 2 * highest)),
        blocks=blocks,
        steps=steps,
        panel_blocks=max(blocks, min(panel_blocks, _MOST_FLOAT_BLOCKS)),
    )
