"""Scales and offsets as numbers, and as they are stored."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .format import Factor, FloatArray

__all__ = ["decode_factor", "divided", "encode_factor", "encode_in", "in_groups", "largest_by_magnitude"]

AnyArray = npt.NDArray[Any]

_E4M3_LARGEST = 448.0


def in_groups(values: AnyArray, size: int | None) -> AnyArray:
    """``[..., n]`` as ``[..., n / size, size]``; a whole row is one group."""
    return values.reshape(*values.shape[:-1], -1, size or values.shape[-1])


def decode_factor(factor: Factor, numbers: AnyArray, super_numbers: AnyArray | None) -> FloatArray:
    """The values of scales or offsets, float32 ``[..., groups]``, from what is stored."""
    values = _decode(factor.type, numbers)
    if factor.of is None or super_numbers is None:
        return values
    of_blocks = _decode(factor.of.type, super_numbers)
    apart = in_groups(values, values.shape[-1] // of_blocks.shape[-1])
    return (of_blocks[..., None] * apart).reshape(values.shape)


def encode_factor(factor: Factor, values: FloatArray) -> tuple[AnyArray, AnyArray | None]:
    """What to store for scales or offsets ``[..., groups]``: the nearest there is.

    A super-block's number lets the largest of its groups' be the largest that these can be, with its sign
    where the range of these is longer on one side.
    """
    if factor.of is None:
        return _encode(factor, values), None
    per_block = None if factor.of.size is None or factor.size is None else factor.of.size // factor.size
    apart = in_groups(values, per_block)
    farthest = np.float32(_farthest(factor))
    super_numbers = _encode(factor.of, largest_by_magnitude(apart) / farthest)
    of_blocks = _decode(factor.of.type, super_numbers)[..., None]
    return encode_in(factor, values, of_blocks), super_numbers


def _farthest(factor: Factor) -> float:
    """The number farthest from zero that there is."""
    if (bounds := factor.integer_range) is None:
        return _E4M3_LARGEST
    return bounds[0] or bounds[1]


def encode_in(factor: Factor, values: FloatArray, of_blocks: FloatArray) -> AnyArray:
    """What to store for scales ``[..., groups]`` beside their super-blocks' ``[..., blocks, 1]``."""
    apart = values.reshape(*of_blocks.shape[:-1], -1)
    return _encode(factor, divided(apart, of_blocks)).reshape(values.shape)


def largest_by_magnitude(values: FloatArray) -> FloatArray:
    """The element farthest from zero along the last axis."""
    where = np.abs(values).argmax(axis=-1)[..., None]
    peaks: FloatArray = np.take_along_axis(values, where, axis=-1)[..., 0]
    return peaks


def divided(values: FloatArray, by: FloatArray) -> FloatArray:
    """``values / by``, 0 where ``by`` is 0."""
    inverse = np.divide(np.float32(1), by, out=np.zeros_like(by), where=by != 0)
    return values * inverse


def _decode(type_: str, numbers: AnyArray) -> FloatArray:
    if type_ == "e4m3":
        numbers = numbers.view(ml_dtypes.float8_e4m3fn)
    elif type_ in ("e8m0", "e8m0_half"):
        numbers = np.ldexp(np.float32(1), numbers.astype(np.int32) - (127 if type_ == "e8m0" else 128))
    values: FloatArray = numbers.astype(np.float32)
    return values


def _encode(factor: Factor, values: FloatArray) -> AnyArray:
    if (bounds := factor.integer_range) is not None:
        encoded: AnyArray = np.clip(np.rint(values), *bounds)
    elif factor.type == "e4m3":
        bounded = np.clip(values, -_E4M3_LARGEST, _E4M3_LARGEST)
        encoded = bounded.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    elif factor.type.startswith("e8m0"):
        # The next power of two, so that nothing is beyond the largest code.
        mantissa, exponent = np.frexp(values)
        ceiling = exponent - (mantissa == 0.5)
        encoded = np.clip(ceiling + (127 if factor.type == "e8m0" else 128), 0, 254)
    else:
        encoded = values
    return encoded.astype(factor.dtype)
