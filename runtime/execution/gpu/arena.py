"""Where what is computed on the way lies: arrays share memory where they do not live at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....targets.launch_plan import PlannedBuffer

__all__ = ["aligned", "place_buffers"]

ALIGNMENT = 256
"""Of every array, in bytes."""


def place_buffers(buffers: Sequence[PlannedBuffer], most: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """An offset for each buffer so that those that live at the same time do not overlap, and the end of all.

    Largest first, each at the lowest offset that is free while it lives (Pisarchyk and Lee, 2020).
    """
    placed: list[tuple[int, int, PlannedBuffer]] = []
    offsets: dict[str, int] = {}
    sizes = {buffer.name: aligned(buffer.num_bytes.value(most)) for buffer in buffers}
    for buffer in sorted(buffers, key=lambda buffer: (-sizes[buffer.name], buffer.first, buffer.name)):
        offset = 0
        for start, end, other in sorted(placed, key=lambda entry: entry[0]):
            lives_then = buffer.first <= other.last and other.first <= buffer.last
            if lives_then and offset + sizes[buffer.name] > start and end > offset:
                offset = end
        offsets[buffer.name] = offset
        placed.append((offset, offset + sizes[buffer.name], buffer))
    return offsets, max((end for _, end, _ in placed), default=0)


def aligned(num_bytes: int) -> int:
    """As many bytes, rounded up to whole alignments; one at least."""
    return max(-(-num_bytes // ALIGNMENT), 1) * ALIGNMENT
