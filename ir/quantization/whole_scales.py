"""Scales of groups that are whole multiples of one of the row's: both chosen for the least squared error."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .format import FloatArray, Integers, QuantFormat

__all__ = ["WHOLE_REFITS", "fit_whole_scales"]

WHOLE_REFITS = 2
"""How often a row's scale is fitted to the codes that its groups' scales gave."""


def fit_whole_scales(
    groups: FloatArray,
    found: FloatArray,
    quant_format: QuantFormat,
    importance: FloatArray | None,
    row_scales: FloatArray | None = None,
) -> tuple[npt.NDArray[np.integer[Any]], FloatArray]:
    """Whole scales ``[rows, g]`` and rows' ``[rows, 1]`` for ``groups`` ``[rows, g, size]``.

    ``found`` are the best scales there would be without rows'. A row's lets the largest of them be the
    largest whole number; each group takes the whole number next below or above it (by magnitude, at least 1)
    that gives the smaller error, and the row's scale is fitted by least squares to the codes that follow. Of
    all tried the best is kept. Where rows' scales are given, they stay.
    """
    bounds, codes = quant_format.scale.integer_range, quant_format.codes
    assert bounds is not None
    assert isinstance(codes, Integers)
    largest = np.float32(bounds[1])
    rows = np.abs(found).max(axis=-1, keepdims=True) / largest if row_scales is None else row_scales
    best, best_rows = np.zeros(found.shape, np.float32), rows
    best_error = np.full((len(found), 1), np.inf, np.float32)
    for _ in range(WHOLE_REFITS + 1 if row_scales is None else 1):
        inverse = np.divide(np.float32(1), rows, out=np.zeros_like(rows), where=rows != 0)
        below = np.floor(np.abs(found * inverse))
        scales, rounded, error = None, None, None
        for size in (below, below + 1):
            sign = np.where(found * inverse < 0, np.float32(-1), np.float32(1))
            tried = sign * np.clip(size, 1, largest)
            scaled = tried * rows
            inverse_scaled = np.divide(np.float32(1), scaled, out=np.zeros_like(scaled), where=scaled != 0)
            given = np.clip(np.rint(groups * inverse_scaled[..., None]), codes.smallest, codes.largest)
            residual = groups - given * scaled[..., None]
            squared = _summed(residual * residual, importance)
            if scales is None or rounded is None or error is None:
                scales, rounded, error = tried, given, squared
                continue
            better = squared < error
            scales, error = np.where(better, tried, scales), np.where(better, squared, error)
            rounded = np.where(better[..., None], given, rounded)
        assert scales is not None
        assert rounded is not None
        assert error is not None
        total = error.sum(axis=-1, keepdims=True)
        better = total < best_error
        best_error = np.where(better, total, best_error)
        best, best_rows = np.where(better, scales, best), np.where(better, rows, best_rows)
        energy = (_summed(rounded * rounded, importance) * scales * scales).sum(axis=-1, keepdims=True)
        product = (_summed(groups * rounded, importance) * scales).sum(axis=-1, keepdims=True)
        rows = np.divide(product, energy, out=rows.copy(), where=energy > 0)
    return best.astype(quant_format.scale.dtype), best_rows


def _summed(values: FloatArray, importance: FloatArray | None) -> FloatArray:
    """Sums over groups, by importance."""
    result: FloatArray = (values if importance is None else values * importance).sum(axis=-1)
    return result
