"""Rounding as ``ggml`` does it, so that files made here and there are the same bytes."""

from __future__ import annotations

import numpy as np

from .array import QuantizedArray
from .factors import decode_factor, in_groups, largest_by_magnitude
from .format import CodeBook, FloatArray, Integers, QuantFormat

__all__ = ["round_like_ggml"]


def round_like_ggml(rows: FloatArray, quant_format: QuantFormat) -> QuantizedArray:
    """``rows`` ``[rows, n]`` in one of ``ggml``'s simple formats.

    Codes are rounded with the scale before it is itself rounded, and halves away from zero: by adding one
    half, and for codes below zero as many as make them positive, and cutting off the rest.
    """
    groups = in_groups(rows, quant_format.group_size)
    codes = quant_format.codes
    if isinstance(codes, CodeBook):
        return _with_powers_of_two(groups, codes, quant_format)
    assert isinstance(codes, Integers)
    offsets, shifted = None, groups
    if quant_format.offset is not None:
        smallest = groups.min(axis=-1, keepdims=True)
        scales = (groups.max(axis=-1, keepdims=True) - smallest) / np.float32(codes.largest)
        offsets, shifted = smallest[..., 0].astype(quant_format.offset.factor.dtype), groups - smallest
    elif codes.bits == 8:
        scales = np.abs(groups).max(axis=-1, keepdims=True) / np.float32(codes.largest)
    else:
        scales = largest_by_magnitude(groups)[..., None] / np.float32(codes.smallest)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    scaled = shifted * inverse
    if codes.bits == 8:
        rounded = np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))
    else:
        rounded = np.trunc(scaled + np.float32(0.5 - codes.smallest)) + np.float32(codes.smallest)
    bounded = np.clip(rounded, codes.smallest, codes.largest).astype(quant_format.components[0].dtype)
    stored = scales[..., 0].astype(quant_format.scale.dtype)
    return QuantizedArray(quant_format, bounded.reshape(rows.shape), stored, offsets)


def _with_powers_of_two(groups: FloatArray, codes: CodeBook, quant_format: QuantFormat) -> QuantizedArray:
    """The power of two below the largest magnitude is that of the largest code; of equally near codes the
    first.
    """
    peak = np.abs(groups).max(axis=-1)
    exponent = np.floor(np.log2(peak, out=np.full_like(peak, -np.inf), where=peak > 0))
    largest_exponent = 2  # of e2m1, whose largest value is 6
    biased = np.where(peak > 0, exponent - largest_exponent + 127, 0).astype(np.uint8)
    scales = decode_factor(quant_format.scale, biased, None)[..., None]
    best_error = np.full(groups.shape, np.inf, np.float32)
    best = np.zeros(groups.shape, np.uint8)
    for code, value in enumerate(codes.values):
        error = np.abs(scales * value - groups)
        better = error < best_error
        best_error[better] = error[better]
        best[better] = code
    return QuantizedArray(quant_format, best.reshape(*groups.shape[:-2], -1), biased)
