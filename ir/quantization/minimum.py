"""Rounding to formats whose groups have an offset: a minimum, or a zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .array import QuantizedArray
from .factors import decode_factor, divided, encode_factor, encode_in, in_groups
from .format import FloatArray, Integers, OffsetRole, QuantFormat

__all__ = ["quantize_with_offset"]

_STEPS = 9
"""Spreads of codes that are tried for a group."""

_REFITS = 2
"""How often numbers are fitted to the codes that they gave."""

Fit = tuple[FloatArray, FloatArray]
"""Scales and minima: a value is ``scale * code + minimum``."""

Stored = dict[str, npt.NDArray[Any] | None]


def quantize_with_offset(
    rows: FloatArray, quant_format: QuantFormat, weights: FloatArray | None
) -> QuantizedArray:
    """``rows`` ``[rows, n]`` in ``quant_format``, with scales and offsets of the least squared error."""
    size = quant_format.group_size
    groups = in_groups(rows, size)
    importance = np.ones((1, 1), np.float32) if weights is None else in_groups(weights, size)
    rounding = _Rounding(quant_format, groups, np.broadcast_to(importance, groups.shape))
    stored, codes = rounding.run()
    return QuantizedArray(quant_format, codes.astype(np.uint8).reshape(rows.shape), **stored)  # type: ignore[arg-type]


class _Rounding:
    def __init__(self, quant_format: QuantFormat, groups: FloatArray, importance: FloatArray) -> None:
        assert quant_format.offset is not None
        assert isinstance(quant_format.codes, Integers)
        self._format, self._offset = quant_format, quant_format.offset
        self._largest = quant_format.codes.largest
        self._groups, self._importance = groups, importance
        self._weight = importance.sum(axis=-1)
        self._weighted = groups * importance
        self._sum = self._weighted.sum(axis=-1)

    def run(self) -> tuple[Stored, FloatArray]:
        """What to store, and codes ``[..., g, size]``: the best of what was fitted."""
        scales, minima = self._search()
        stored = self._store(scales, minima)
        best, best_error = self._judge(stored)
        found = best
        for _ in range(_REFITS):
            found, error = self._judge(self._refit(*found))
            better = error < best_error
            best = self._choose(better, found, best)
            best_error = np.where(better, error, best_error)
        return best

    def _judge(self, stored: Stored) -> tuple[tuple[Stored, FloatArray], FloatArray]:
        """``stored`` with the codes it gives, and their error, by group or by super-block."""
        fit = self._decode(stored)
        codes = self._round(*fit)
        error = self._error(codes, *fit)
        if stored["super_scales"] is not None:
            error = error.reshape(*stored["super_scales"].shape, -1).sum(axis=-1)
        return (stored, codes), error

    def _choose(
        self, better: npt.NDArray[np.bool_], new: tuple[Stored, FloatArray], old: tuple[Stored, FloatArray]
    ) -> tuple[Stored, FloatArray]:
        """New numbers and codes where they are ``better``, by group or by super-block."""

        def chosen(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> npt.NDArray[Any]:
            apart = (*better.shape, -1)
            picked = np.where(better[..., None], left.reshape(apart), right.reshape(apart))
            return picked.reshape(left.shape)

        stored: Stored = {}
        for name, array in new[0].items():
            other = old[0][name]
            stored[name] = None if array is None or other is None else chosen(array, other)
        return stored, chosen(new[1], old[1])

    def _round(self, scales: FloatArray, minima: FloatArray) -> FloatArray:
        scaled = divided(self._groups - minima[..., None], scales[..., None])
        return np.clip(np.rint(scaled), 0, self._largest)

    def _error(self, codes: FloatArray, scales: FloatArray, minima: FloatArray) -> FloatArray:
        residual = self._groups - codes * scales[..., None] - minima[..., None]
        result: FloatArray = (residual * residual * self._importance).sum(axis=-1)
        return result

    def _search(self) -> Fit:
        """The best of several spreads of the codes between the least and the largest value, each refitted."""
        smallest = np.minimum(self._groups.min(axis=-1), 0)
        largest = self._groups.max(axis=-1)
        if self._offset.role is OffsetRole.ZERO_POINT:
            largest = np.maximum(largest, 0)
        best = (largest - smallest) / np.float32(self._largest), smallest
        best_error = self._error(self._round(*best), *best)
        for step in range(_STEPS):
            spread = np.float32(self._largest + (step - _STEPS // 2) / 4)
            codes = self._round((largest - smallest) / spread, smallest)
            fit = self._fit(codes)
            error = self._error(codes, *fit)
            better = error < best_error
            best_error = np.where(better, error, best_error)
            best = np.where(better, fit[0], best[0]), np.where(better, fit[1], best[1])
        return best

    def _fit(self, codes: FloatArray) -> Fit:
        """Scales and minima of the least squared error for ``codes``, minima not above zero."""
        of_codes = (codes * self._importance).sum(axis=-1)
        of_squares = (codes * codes * self._importance).sum(axis=-1)
        of_products = (codes * self._weighted).sum(axis=-1)
        determinant = self._weight * of_squares - of_codes * of_codes
        scales = _quotient(self._weight * of_products - of_codes * self._sum, determinant)
        minima = _quotient(of_squares * self._sum - of_codes * of_products, determinant)
        alone = _quotient(of_products, of_squares)
        is_usable = (minima <= 0) & (scales > 0)
        scales, minima = np.where(is_usable, scales, np.maximum(alone, 0)), np.where(is_usable, minima, 0)
        if self._offset.role is not OffsetRole.ZERO_POINT or self._offset.factor.integer_bits is None:
            return scales, minima
        # Minima must be whole numbers of codes; scales are then fitted to the codes' distances from these.
        zeros = np.clip(np.rint(divided(-minima, scales)), 0, self._largest)
        distances = codes - zeros[..., None]
        energy = (distances * distances * self._importance).sum(axis=-1)
        scales = np.maximum(_quotient((distances * self._weighted).sum(axis=-1), energy), 0)
        return scales, -scales * zeros

    def _store(self, scales: FloatArray, minima: FloatArray) -> Stored:
        stored, super_scales = encode_factor(self._format.scale, scales)
        used = decode_factor(self._format.scale, stored, super_scales)
        offsets, super_offsets = encode_factor(self._offset.factor, self._offset_of(used, minima))
        return {
            "scales": stored,
            "offsets": offsets,
            "super_scales": super_scales,
            "super_offsets": super_offsets,
        }

    def _offset_of(self, scales: FloatArray, minima: FloatArray) -> FloatArray:
        match self._offset.role:
            case OffsetRole.ADDED:
                return minima
            case OffsetRole.SUBTRACTED:
                return -minima
            case OffsetRole.ZERO_POINT:
                return divided(-minima, scales)

    def _decode(self, stored: Stored) -> Fit:
        assert stored["scales"] is not None
        assert stored["offsets"] is not None
        scales = decode_factor(self._format.scale, stored["scales"], stored["super_scales"])
        offsets = decode_factor(self._offset.factor, stored["offsets"], stored["super_offsets"])
        match self._offset.role:
            case OffsetRole.ADDED:
                return scales, offsets
            case OffsetRole.SUBTRACTED:
                return scales, -offsets
            case OffsetRole.ZERO_POINT:
                return scales, -scales * offsets

    def _refit(self, stored: Stored, codes: FloatArray) -> Stored:
        """Numbers fitted to ``codes``: super-blocks' for the groups' as they are, then the groups'."""
        fitted = self._fit(codes)
        factor, offset = self._format.scale, self._offset.factor
        if factor.of is None or offset.of is None:
            return self._store(*fitted)
        scales, offsets, super_scales = stored["scales"], stored["offsets"], stored["super_scales"]
        assert scales is not None
        assert offsets is not None
        assert super_scales is not None
        blocks = (*super_scales.shape, -1)
        # Two unknowns a super-block, d and m, in d * (scale * code) - m * offset.
        spread = (codes * scales[..., None].astype(np.float32)).reshape(blocks)
        lowered = np.broadcast_to(offsets[..., None].astype(np.float32), codes.shape).reshape(blocks)
        weights, values = self._importance.reshape(blocks), self._groups.reshape(blocks)
        ss, so, oo, xs, xo = (
            (weights * left * right).sum(axis=-1)
            for left, right in (
                (spread, spread),
                (spread, lowered),
                (lowered, lowered),
                (values, spread),
                (values, lowered),
            )
        )
        determinant = ss * oo - so * so
        of_scales = _quotient(xs * oo - xo * so, determinant)
        of_offsets = _quotient(xs * so - xo * ss, determinant)
        is_usable = (of_scales > 0) & (of_offsets > 0)
        alone = _quotient(xs, ss)
        of_scales = np.where(is_usable, of_scales, alone).astype(factor.of.dtype)
        of_offsets = np.where(is_usable, of_offsets, 0).astype(offset.of.dtype)
        return {
            "scales": encode_in(factor, fitted[0], of_scales.astype(np.float32)[..., None]),
            "offsets": encode_in(offset, -fitted[1], of_offsets.astype(np.float32)[..., None]),
            "super_scales": of_scales,
            "super_offsets": of_offsets,
        }


def _quotient(dividend: FloatArray, divisor: FloatArray) -> FloatArray:
    """0 where the divisor is."""
    return np.divide(dividend, divisor, out=np.zeros_like(dividend), where=divisor != 0)
