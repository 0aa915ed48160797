"""How matrices lie in memory, the same for every CPU.

A weight ``[outputs, inputs]`` is cut into blocks of :data:`BLOCK` outputs, the last one filled up with
zeros. Inside a block, elements that one vector instruction takes lie side by side:

- floats: ``[block, input, 16]``;
- 8-bit codes: ``[block, input / 4, 16, 4]`` bytes of code + 128, so that a 32-bit lane of a dot product finds
  its four neighbours;
- 4-bit codes: ``[block, input / 8, 16, 4]`` bytes, the low halves for the first four of eight inputs, the
  high halves for the other four, each code + 8;
- scales: ``[block, group, 16]``.

Weights of several experts ``[experts, outputs, inputs]`` are their blocks, one expert's after the other's. A
bias is filled up to whole blocks too; all else lies row by row.

A register of 64, 32 or 16 bytes takes 16, 8 or 4 outputs of a block, so one file of weights serves AVX-512,
AVX2 and NEON. bfloat16 is kept as its bits in uint16, which every backend can load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ...ir import Array, QuantFormat, QuantizedArray, ScalarType, TensorType
from ...ir.errors import CompileError
from ...ir.quantization import Integers

__all__ = ["BLOCK", "Component", "Layout", "components", "num_blocks", "pack"]

BLOCK = 16
"""Outputs in one block."""


class Layout(Enum):
    """How a parameter lies; the value is its name in manifests."""

    ROWS = "rows"
    PADDED = "padded16"
    BLOCKED = "blocks16"


@dataclass(frozen=True)
class Component:
    """One array that stores (part of) a parameter."""

    suffix: str
    shape: tuple[int, ...]
    dtype: str


def num_blocks(outputs: int) -> int:
    """Blocks that hold ``outputs`` rows."""
    return -(-outputs // BLOCK)


def components(type_: TensorType, layout: Layout) -> tuple[Component, ...]:
    """The arrays that store a parameter of ``type_``: one for floats, codes and scales for a format."""
    shape = tuple(int(dim) for dim in type_.shape)
    element = type_.element
    if isinstance(element, ScalarType):
        dtype = "uint16" if element is ScalarType.BFLOAT16 else element.value
        if layout is Layout.BLOCKED:
            shape = (_all_blocks(shape[:-1]), shape[-1], BLOCK)
        elif layout is Layout.PADDED:
            shape = (_all_blocks(shape) * BLOCK,)
        return (Component("", shape, dtype),)
    if layout is not Layout.BLOCKED:
        raise CompileError(f"a parameter of {type_} can only be the matrix of a product or an embedding")
    if element.bits not in (4, 8) or element.offset is not None or not isinstance(element.codes, Integers):
        raise CompileError(f"a parameter of {type_} has no layout on CPU yet")
    blocks, inputs = _all_blocks(shape[:-1]), shape[-1]
    return (
        Component(".codes", (blocks, inputs * BLOCK * element.bits // 8), "uint8"),
        Component(".scales", (blocks, inputs // element.block_size, BLOCK), element.scale.type),
    )


def _all_blocks(shape: tuple[int, ...]) -> int:
    """Blocks that hold ``[outputs]``, or ``[experts, outputs]``."""
    return math.prod(shape[:-1]) * num_blocks(shape[-1])


def pack(array: Array, layout: Layout) -> tuple[npt.NDArray[np.generic], ...]:
    """The arrays of :func:`components` for a parameter's value."""
    if isinstance(array, QuantizedArray):
        return _pack_codes(array), np.ascontiguousarray(_blocked(array.scales).transpose(0, 2, 1))
    if array.dtype == ml_dtypes.bfloat16:
        array = array.view(np.uint16)
    if layout is Layout.BLOCKED:
        array = _blocked(array).transpose(0, 2, 1)
    elif layout is Layout.PADDED:
        array = _blocked(array[..., None]).reshape(-1)
    return (np.ascontiguousarray(array),)


def _blocked(matrix: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """``[..., outputs, n]`` as ``[blocks, 16, n]``, filled up with zeros."""
    *lead, outputs, width = matrix.shape
    missing = num_blocks(outputs) * BLOCK - outputs
    if missing:
        matrix = np.concatenate([matrix, np.zeros((*lead, missing, width), matrix.dtype)], axis=-2)
    return matrix.reshape(-1, BLOCK, width)


def _pack_codes(array: QuantizedArray) -> npt.NDArray[np.uint8]:
    quant_format: QuantFormat = array.format
    codes = _blocked(array.codes)
    blocks, _, inputs = codes.shape
    assert isinstance(quant_format.codes, Integers)
    unsigned = (codes.astype(np.int16) - quant_format.codes.smallest).astype(np.uint8)
    fours = unsigned.reshape(blocks, BLOCK, inputs // 4, 4).transpose(0, 2, 1, 3)
    if quant_format.bits == 4:
        fours = np.bitwise_or(fours[:, 0::2], fours[:, 1::2] << np.uint8(4))
    return np.ascontiguousarray(fours).reshape(blocks, -1)
