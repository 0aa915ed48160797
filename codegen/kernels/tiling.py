"""How products of codes are cut: register tiles, panels, and from how many rows on these are used.

A small model of a machine says so: how many registers it has, how large its caches are, and how many
instructions each way takes. What was measured on one kind of machine can be said instead
(:attr:`.isa.Isa.tiling`).
"""

from __future__ import annotations

from .coded import FOURS
from .isa import Isa, Tiling
from .layout import BLOCK

__all__ = ["LINE_INSTRUCTIONS", "find_tiling"]

LINE_INSTRUCTIONS = 2
"""What it takes to multiply the bytes of a register by a scale and move their zero."""

_SUM_INSTRUCTIONS = 3
"""What it takes to begin a row's sums of a span, and to add them scaled."""

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
