"""Quantized weights as ONNX Runtime's operators take them: codes of 2, 4 or 8 bits from 0 on, in blocks.

An element is ``scale * (code - zero point)``, the zero point a whole number of as many bits; where none is
given it is half of what the codes can be. That holds every format of whole numbers, and those whose code
book is of whole numbers, with the values they have. What a format adds to a group in floats is no zero point:
it is kept beside, and a product adds it (see :mod:`.products`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...ir import Array, QuantFormat, QuantizedArray
from ...ir.errors import CompileError
from ...ir.quantization import CodeBook, Integers, OffsetRole, scales_and_zeros
from .weight_file import AnyArray

__all__ = ["Blocks", "blocks_of", "pack_blocks", "pack_decoded"]

_SMALLEST_BLOCK, _LARGEST_BLOCK = 16, 256
"""Of what the operators take."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """How a format lies: bits of a code, inputs of a block, the code of zero, and what goes beside.

    Attributes:
        bits: 2, 4 or 8.
        size: inputs that share a scale here, a power of two; the format's groups may be longer.
        zero: what stands for zero; half of what codes can be is the operators' own choice.
        has_zero_points: each block has a zero point of its own.
        has_offsets: each block adds a float of its own.
    """

    bits: int
    size: int
    zero: int
    has_zero_points: bool
    has_offsets: bool

    @property
    def needs_zero_points(self) -> bool:
        """Whether the operator must be told."""
        return self.has_zero_points or self.zero != 1 << (self.bits - 1)


def blocks_of(quant_format: QuantFormat, width: int) -> Blocks | None:
    """How rows of ``width`` elements in a format lie; None where no operator takes such."""
    codes = quant_format.codes
    size = _block_size(quant_format.group_size, width)
    if size is None:
        return None
    offset = quant_format.offset
    is_point = offset is not None and offset.role is OffsetRole.ZERO_POINT
    is_whole = is_point and offset is not None and offset.factor.integer_bits is not None
    if isinstance(codes, CodeBook):
        return Blocks(8, size, 128, False, offset is not None) if codes.is_integer else None
    if not isinstance(codes, Integers):
        return None
    bits = next(bits for bits in (2, 4, 8) if bits >= codes.bits)
    if is_whole:
        return Blocks(8 if bits == 2 else bits, size, 0, True, False)
    return Blocks(bits, size, 1 << (bits - 1) if codes.signed else 0, False, offset is not None)


def _block_size(group_size: int | None, width: int) -> int | None:
    """The largest power of two that divides the groups, or the rows where these are one group."""
    whole = group_size or width
    size = min(whole & -whole, _LARGEST_BLOCK)
    return size if size >= _SMALLEST_BLOCK else None


def pack_blocks(array: Array, blocks: Blocks) -> Mapping[str, AnyArray]:
    """Codes ``[..., n, blocks, bytes]``, scales ``[..., n, blocks]``, and zero points and offsets if any.

    Where a zero point has more bits than the codes, as one more than the largest code has (GPTQ), all get
    eight.
    """
    if not isinstance(array, QuantizedArray):
        raise CompileError("a plain tensor came where a quantized one is needed")
    codes = array.format.codes
    if isinstance(codes, CodeBook):
        numbers = codes.decode(array.codes).astype(np.int16) + 128
    else:
        numbers = array.codes.astype(np.int16) + (blocks.zero if array.format.offset is None else 0)
    *lead, width = numbers.shape
    count = width // blocks.size
    scales, zeros = scales_and_zeros(array)
    points: AnyArray | None = None
    bits = blocks.bits
    if blocks.has_zero_points and array.offsets is not None:
        points = _for_blocks(array.offsets, count)
        bits = bits if int(points.max()) < 1 << bits else 8
    elif blocks.needs_zero_points:
        points = np.full((*lead, count), blocks.zero, np.uint8)
    packed = _packed(numbers.astype(np.uint8).reshape(*lead, count, blocks.size), bits)
    parts: dict[str, AnyArray] = {
        "codes": packed,
        "scales": np.ascontiguousarray(_for_blocks(scales, count), np.float32),
    }
    if points is not None:
        parts["zero_points"] = _packed(_filled(points, 8 // bits), bits)
    if blocks.has_offsets and zeros is not None:
        parts["offsets"] = _for_blocks(zeros, count).astype(np.float32)
    return parts


def _for_blocks(factors: npt.NDArray[np.generic], count: int) -> AnyArray:
    """A factor for each of ``count`` blocks, where groups hold several."""
    return np.repeat(factors, count // factors.shape[-1], axis=-1)


def _filled(points: AnyArray, multiple: int) -> AnyArray:
    missing = -points.shape[-1] % multiple
    return np.pad(points, [(0, 0)] * (points.ndim - 1) + [(0, missing)])


def _packed(numbers: AnyArray, bits: int) -> npt.NDArray[np.uint8]:
    """Several numbers a byte along the last dimension, the first in the low bits."""
    per_byte = 8 // bits
    apart = numbers.astype(np.uint8).reshape(*numbers.shape[:-1], -1, per_byte)
    result = np.zeros(apart.shape[:-1], np.uint8)
    for place in range(per_byte):
        result |= apart[..., place] << np.uint8(place * bits)
    return result


def pack_decoded(array: Array) -> Mapping[str, AnyArray]:
    """What a format's codes stand for, with scales and offsets in float32, for formats without blocks.

    Values are float8 or float32; ``[..., n]`` and ``[..., groups]``.
    """
    if not isinstance(array, QuantizedArray):
        raise CompileError("a plain tensor came where a quantized one is needed")
    scales, zeros = scales_and_zeros(array)
    parts: dict[str, AnyArray] = {"codes": array.codes, "scales": scales.astype(np.float32)}
    if zeros is not None:
        parts["offsets"] = zeros.astype(np.float32)
    return parts
