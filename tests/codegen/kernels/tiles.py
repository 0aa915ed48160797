"""Rows of codes in tiles, as the matrix products take them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["in_rows", "in_tiles"]


def _tiles(num_rows: int, heights: tuple[int, ...]) -> Iterator[slice]:
    """The largest height as often as it fits, then each half at most once."""
    row = 0
    for height in heights:
        while num_rows - row >= height:
            yield slice(row, row + height)
            row += height


def in_tiles(codes: np.ndarray, heights: tuple[int, ...]) -> np.ndarray:
    """Codes ``[m, width]``, within each tile of ``h`` rows as ``[width / 4, h, 4]``."""
    result = np.empty_like(codes)
    for tile in _tiles(len(codes), heights):
        height = tile.stop - tile.start
        fours = codes[tile].reshape(height, -1, 4).transpose(1, 0, 2)
        result[tile] = fours.reshape(height, -1)
    return result


def in_rows(codes: np.ndarray, heights: tuple[int, ...]) -> np.ndarray:
    """The inverse of :func:`in_tiles`."""
    result = np.empty_like(codes)
    for tile in _tiles(len(codes), heights):
        height = tile.stop - tile.start
        result[tile] = codes[tile].reshape(-1, height, 4).transpose(1, 0, 2).reshape(height, -1)
    return result
