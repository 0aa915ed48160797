"""HQQ: zero points for which most weights are nearly exact and a few may be wrong.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", Mobius Labs, 2023.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...ir import QuantFormat, QuantizedArray
from ...ir.errors import CompileError
from ...ir.quantization import Integers, OffsetRole
from ...ir.quantization.factors import decode_factor, encode_factor, in_groups
from .grid import FloatArray

__all__ = ["hqq", "takes_hqq"]

_NORM = 0.7
_SHARPNESS = 10.0
_SHARPENING = 1.01
_STEPS = 20
"""The reference implementation's."""

_CHUNK = 1 << 20
"""Elements at a time."""


def takes_hqq(quant_format: QuantFormat) -> bool:
    """Whether groups of a format have zero points."""
    return (
        quant_format.offset is not None
        and quant_format.offset.role is OffsetRole.ZERO_POINT
        and isinstance(quant_format.codes, Integers)
    )


def hqq(weight: FloatArray, quant_format: QuantFormat) -> QuantizedArray:
    """``weight`` ``[outputs, inputs]`` in a format with zero points.

    Scales spread the codes from the smallest to the largest weight of a group. Zero points minimise the sum
    of ``|error| ** 0.7``, by turns of a shrinkage of the errors, which is its proximal step, and the mean
    that fits what is left. Raises :class:`CompileError` for a format without zero points.
    """
    if not takes_hqq(quant_format):
        raise CompileError(
            f"hqq moves zero points, which {quant_format.name} does not have; int4_g64_fz, for one, has"
        )
    at_once = max(1, _CHUNK // weight.shape[1])
    parts = [_rows(weight[start : start + at_once], quant_format) for start in range(0, len(weight), at_once)]
    names = parts[0].components
    joined = {name: np.concatenate([part.components[name] for part in parts]) for name in names}
    return QuantizedArray(quant_format, **joined)


def _rows(rows: FloatArray, quant_format: QuantFormat) -> QuantizedArray:
    offset, codes = quant_format.offset, quant_format.codes
    assert offset is not None
    assert isinstance(codes, Integers)
    groups = in_groups(rows.astype(np.float32), quant_format.group_size)
    smallest, largest = groups.min(axis=-1), groups.max(axis=-1)
    spread = (largest - smallest) / np.float32(codes.largest)
    # A group of equal values: the scale is that value, and code 1 over the zero point 0.
    flat = spread <= np.abs(smallest) * np.float32(1e-6)
    scales, super_scales = encode_factor(quant_format.scale, np.where(flat, smallest, spread))
    wide = decode_factor(quant_format.scale, scales, super_scales)
    inverse = np.divide(np.float32(1), wide, out=np.zeros_like(wide), where=wide != 0)
    zeros = np.where(flat, np.float32(0), -smallest * inverse)
    factor = offset.factor

    def stored(zeros: FloatArray) -> FloatArray:
        return decode_factor(factor, *encode_factor(factor, zeros))

    zeros = _improve(groups, wide, inverse, zeros, codes.largest, stored)
    offsets, super_offsets = encode_factor(factor, zeros)
    rounded = np.clip(np.rint(groups * inverse[..., None] + stored(zeros)[..., None]), 0, codes.largest)
    return QuantizedArray(
        quant_format,
        rounded.astype(np.uint8).reshape(rows.shape),
        scales,
        offsets,
        super_scales,
        super_offsets,
    )


def _improve(
    groups: FloatArray,
    scales: FloatArray,
    inverse: FloatArray,
    zeros: FloatArray,
    largest: int,
    stored: Callable[[FloatArray], FloatArray],
) -> FloatArray:
    """Zero points ``[..., g]``, each the best, as it is ``stored``, of those its group went through."""

    def rounded(zeros: FloatArray) -> tuple[FloatArray, FloatArray]:
        codes = np.clip(np.rint(groups * inverse[..., None] + zeros[..., None]), 0, largest)
        return codes, groups - (codes - zeros[..., None]) * scales[..., None]

    best, best_error = zeros, np.full(zeros.shape, np.inf, np.float32)
    sharpness = np.float32(_SHARPNESS)
    for _ in range(_STEPS):
        _, errors = rounded(stored(zeros))
        total = (np.abs(errors) ** np.float32(_NORM)).sum(axis=-1)
        better = total < best_error
        best, best_error = np.where(better, zeros, best), np.where(better, total, best_error)
        codes, errors = rounded(zeros)
        kept = _shrunk(errors, sharpness)
        zeros = (codes - (groups - kept) * inverse[..., None]).mean(axis=-1)
        sharpness *= np.float32(_SHARPENING)
    return best


def _shrunk(errors: FloatArray, sharpness: np.float32) -> FloatArray:
    """The proximal step of the norm: small errors become zero, large ones nearly stay."""
    magnitude = np.abs(errors)
    lowered = np.maximum(magnitude, np.float32(1e-8)) ** np.float32(_NORM - 1) / sharpness
    result: FloatArray = np.sign(errors) * np.maximum(magnitude - lowered, 0)
    return result
