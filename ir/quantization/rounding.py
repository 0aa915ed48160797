"""From values to the codes of a format."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import IRError
from .array import QuantizedArray
from .factors import decode_factor, divided, encode_factor, encode_in, in_groups, largest_by_magnitude
from .format import CodeBook, Codes, Factor, Float8, FloatArray, Integers, QuantFormat, Rounding
from .ggml import round_like_ggml
from .minimum import quantize_with_offset
from .whole_scales import fit_whole_scales

__all__ = ["SEARCH_STEPS", "quantize"]

SEARCH_STEPS = 9
"""Scales that are tried for a group where the best is searched."""

_REFITS = 2
"""How often a super-block's numbers are fitted to the codes that they gave."""

_CHUNK = 1 << 17
"""Elements that are rounded at once: few enough for caches to hold what comes between."""


def quantize(
    values: npt.NDArray[np.floating[Any]],
    quant_format: QuantFormat,
    weights: npt.NDArray[np.floating[Any]] | None = None,
    row_scales: FloatArray | None = None,
) -> QuantizedArray:
    """Round ``values`` ``[..., n]`` to ``quant_format``, whose blocks must divide n.

    ``weights`` ``[n]`` says what an error in each column counts (an importance matrix), where the format's
    scales are searched; by default each counts the same. ``row_scales`` ``[..., 1]`` are what groups' scales
    shall be whole multiples of, where the format has such; by default the best.

    Raises :class:`IRError` where the blocks do not divide n, or weights do not fit.
    """
    *lead, width = values.shape
    if width % quant_format.block_size:
        raise IRError(
            f"rows of {width} are no whole blocks of {quant_format.block_size}, as {quant_format.name} has"
        )
    if weights is not None and weights.shape != (width,):
        raise IRError(f"there are weights for {weights.shape} columns, and values have {width}")
    rows = values.reshape(-1, width)
    wide = None if weights is None else weights.astype(np.float32)
    at_once = max(1, _CHUNK // max(width, 1))
    parts = [
        _round_rows(
            rows[start : start + at_once].astype(np.float32),
            quant_format,
            wide,
            None if row_scales is None else row_scales.reshape(-1, 1)[start : start + at_once],
        )
        for start in range(0, max(len(rows), 1), at_once)
    ]
    joined = {name: np.concatenate([part.components[name] for part in parts]) for name in parts[0].components}
    return QuantizedArray(quant_format, **{k: v.reshape(*lead, v.shape[-1]) for k, v in joined.items()})


def _round_rows(
    rows: FloatArray,
    quant_format: QuantFormat,
    weights: FloatArray | None,
    row_scales: FloatArray | None,
) -> QuantizedArray:
    """The same for ``[rows, n]``."""
    if quant_format.rounding is Rounding.GGML:
        return round_like_ggml(rows, quant_format)
    if quant_format.offset is not None:
        return quantize_with_offset(rows, quant_format, weights)
    groups = in_groups(rows, quant_format.group_size)
    if quant_format.rounding is Rounding.NEAREST:
        peaks = np.abs(groups).max(axis=-1) / np.float32(_extreme(quant_format.codes, signed=False))
        scales, super_scales = encode_factor(quant_format.scale, peaks)
    else:
        importance = None if weights is None else in_groups(weights, quant_format.group_size)
        found = _search(groups, quant_format, importance)
        if quant_format.has_whole_scales:
            scales, super_scales = fit_whole_scales(groups, found, quant_format, importance, row_scales)
        else:
            scales, super_scales = encode_factor(quant_format.scale, found)
        if super_scales is not None and not quant_format.has_whole_scales:
            scales, super_scales = _fit_super_blocks(groups, quant_format, scales, super_scales, importance)
    decoded = decode_factor(quant_format.scale, scales, super_scales)
    rounded = _round_to(groups, decoded, quant_format.codes)
    codes = _codes_of(rounded, quant_format.codes).reshape(rows.shape)
    return QuantizedArray(quant_format, codes, scales, super_scales=super_scales)


def _extreme(codes: Codes, *, signed: bool) -> float:
    """The value farthest from zero: ``signed`` as it is, else what both signs reach (whole numbers) or the
    largest magnitude.
    """
    if isinstance(codes, Integers):
        return codes.smallest if signed else codes.largest
    if isinstance(codes, Float8):
        return codes.largest
    farthest = max(codes.table, key=abs)
    return farthest if signed else abs(farthest)


def _round_to(groups: FloatArray, scales: FloatArray, codes: Codes) -> FloatArray:
    """What the nearest codes stand for, of ``groups`` ``[..., g, size]`` over ``scales`` ``[..., g]``.

    A zero scale gives zeros.
    """
    scaled = divided(groups, scales[..., None])
    if isinstance(codes, Integers):
        return np.clip(np.rint(scaled), codes.smallest, codes.largest)
    if isinstance(codes, Float8):
        bounded = np.clip(scaled, -codes.largest, codes.largest)
        return bounded.astype(codes.dtype).astype(np.float32)
    ascending = np.unique(codes.values)
    between = (ascending[1:] + ascending[:-1]) / 2
    if not codes.is_integer:
        return np.take(ascending, np.searchsorted(between, scaled))
    # Halves lie between whole numbers, so that the nearest is the same for all from one half to the next.
    least, most = 2 * ascending[0], 2 * ascending[-1]
    halves = np.arange(least, most + 1, dtype=np.float32) / 2
    nearest = ascending[np.searchsorted(between, halves, side="right")]
    places = np.clip(np.floor(scaled * 2), least, most) - least
    found: FloatArray = np.take(nearest, places.astype(np.int32))
    return found


def _codes_of(values: FloatArray, codes: Codes) -> npt.NDArray[np.integer[Any]]:
    """The codes that stand for ``values``, each of which some code stands for; of several, the first."""
    if isinstance(codes, Integers):
        return values.astype(np.int8 if codes.signed else np.uint8)
    if isinstance(codes, Float8):
        return values.astype(codes.dtype).view(np.uint8)
    ascending, first = np.unique(codes.values, return_index=True)
    return first.astype(np.uint8)[np.searchsorted(ascending, values)]


def _step(codes: Codes) -> float:
    """How far codes are apart, about."""
    if isinstance(codes, CodeBook):
        return (max(codes.table) - min(codes.table)) / (len(codes.table) - 1)
    return 1


def _weighted(values: FloatArray, importance: FloatArray | None) -> FloatArray:
    """Sums over groups, by importance."""
    result: FloatArray = (values if importance is None else values * importance).sum(axis=-1)
    return result


def _search(groups: FloatArray, quant_format: QuantFormat, importance: FloatArray | None) -> FloatArray:
    """The scales ``[..., g]`` with the least squared error.

    Candidates are the largest magnitude (with its sign, so that the longer side of the codes can serve it)
    over the farthest code and a bit more or less, in quarters of a step, each refitted by least squares to
    the codes it gives.
    """
    codes, factor = quant_format.codes, quant_format.scale
    peak = largest_by_magnitude(groups)
    best_error = np.full(peak.shape, np.inf, np.float32)
    best_scales = np.zeros(peak.shape, np.float32)
    farthest, step_size = _extreme(codes, signed=True), _step(codes)
    for step in range(SEARCH_STEPS):
        first = peak / np.float32(farthest + (step - SEARCH_STEPS // 2) / 4 * step_size)
        rounded = _round_to(groups, first, codes)
        energy = _weighted(rounded * rounded, importance)
        product = _weighted(groups * rounded, importance)
        scales = _as_stored(np.divide(product, energy, out=first.copy(), where=energy > 0), factor)
        residual = groups - rounded * scales[..., None]
        error = _weighted(residual * residual, importance)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scales = np.where(better, scales, best_scales)
    return best_scales


def _as_stored(scales: FloatArray, factor: Factor) -> FloatArray:
    """Scales as their type has them, unless that is up to a super-block."""
    if factor.of is not None:
        return scales
    return decode_factor(factor, encode_factor(factor, scales)[0], None)


def _fit_super_blocks(
    groups: FloatArray,
    quant_format: QuantFormat,
    scales: npt.NDArray[Any],
    super_scales: npt.NDArray[Any],
    importance: FloatArray | None,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Scales and super-blocks' scales fitted in turn, by least squares, to the codes they give; the best."""
    factor = quant_format.scale
    assert factor.of is not None
    blocks = (*super_scales.shape, -1)
    best_error = np.full(super_scales.shape, np.inf, np.float32)
    best = scales, super_scales
    for _ in range(_REFITS + 1):
        decoded = decode_factor(factor, scales, super_scales)
        rounded = _round_to(groups, decoded, quant_format.codes)
        residual = groups - rounded * decoded[..., None]
        error = _weighted(residual * residual, importance).reshape(blocks).sum(axis=-1)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        kept = np.where(better[..., None], scales.reshape(blocks), best[0].reshape(blocks))
        best = kept.reshape(scales.shape), np.where(better, super_scales, best[1])
        energy, product = (
            _weighted(rounded * rounded, importance).reshape(blocks),
            _weighted(groups * rounded, importance).reshape(blocks),
        )
        whole = scales.astype(np.float32).reshape(blocks)
        divisor = (energy * whole * whole).sum(axis=-1)
        fitted = np.divide(
            (product * whole).sum(axis=-1),
            divisor,
            out=super_scales.astype(np.float32),
            where=divisor > 0,
        )
        super_scales = fitted.astype(super_scales.dtype)
        own = np.divide(product, energy, out=np.zeros_like(product), where=energy > 0)
        scales = encode_in(factor, own.reshape(scales.shape), super_scales.astype(np.float32)[..., None])
    return best
