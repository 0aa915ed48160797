"""What a device is told of each token that it is to choose: a table that the runtime writes and kernels read.

The kernels' picture of it is ``Choice`` in ``codegen/gpu/sources/sampling.h``.
"""

from __future__ import annotations

import numpy as np

__all__ = ["CHOICE", "MOST_SORTED"]

MOST_SORTED = 1024
"""So many tokens of a row kernels sort; a larger top-k is the host's."""

CHOICE = np.dtype(
    [
        ("row", "<i4"),
        ("is_greedy", "<i4"),
        ("top_k", "<i4"),
        ("mask", "<i4"),
        ("temperature", "<f4"),
        ("inverse", "<f4"),
        ("min_p", "<f4"),
        ("min_floor", "<f4"),
        ("top_p", "<u8"),
        ("seed", "<u8"),
        ("place", "<i4"),
        ("repetition", "<f4"),
        ("frequency", "<f4"),
        ("presence", "<f4"),
        ("counted", "<i4"),
        ("added", "<i4"),
        ("biased", "<i4"),
        ("suppressed", "<i4"),
        ("end", "<i4"),
        ("unused", "<i4", (3,)),
    ]
)
"""A line. ``mask`` is the number of its mask, -1: all tokens may come. ``top_p`` counts units of 2**-53.
``min_floor`` is what is added to the largest logit for one below which min-p leaves nothing. The rest are
where, among all edits, its own begin, kind by kind, and where the last ones end."""
