"""How matrices lie in memory, the same for every CPU.

A weight ``[outputs, inputs]`` is cut into blocks of :data:`BLOCK` outputs, the last one filled up with
zeros. Inside a block, elements that one vector instruction takes lie side by side:

- floats: ``[block, input, 16]``; bfloat16 in pairs of neighbouring inputs, ``[block, pair, 16, 2]``, of whole
  spans of :data:`SPAN` inputs, so that a 32-bit lane of a product of pairs finds its neighbours;
- codes: ``[block, span, bits, 64]`` bytes, where a span is :data:`SPAN` inputs, which are eight *fours*: four
  neighbouring inputs of 16 outputs, ``[16, 4]``, so that a 32-bit lane of a dot product finds its neighbours.
  Codes are stored from 0 on (signed ones plus ``2 ** (bits - 1)``), and of less than eight bits as *planes*
  of 4, 2 and 1 bits that add up to theirs, the low bits first: a byte of a plane of w bits holds those of
  ``8 / w`` fours, the first in the low bits;
- scales and offsets: ``[block, group, 16]`` as the format stores them, those of super-blocks likewise; where
  both are of four bits, a byte holds a scale in its low half and an offset in the other.

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
from ...ir.quantization import CodeBook

__all__ = [
    "BLOCK",
    "LARGEST_TABLE",
    "SPAN",
    "Component",
    "Layout",
    "are_paired",
    "coded_components",
    "components",
    "num_blocks",
    "num_pairs",
    "pack",
    "planes_of",
    "span_bytes",
]

BLOCK = 16
"""Outputs in one block."""

SPAN = 32
"""Inputs whose codes lie together; rows of another length are filled up with zeros."""

LARGEST_TABLE = 16
"""Values of a code book that fit the tables of every machine."""


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


def num_pairs(inputs: int) -> int:
    """Pairs of inputs that are stored of ``inputs`` bfloat16."""
    return -(-inputs // SPAN) * SPAN // 2


def components(type_: TensorType, layout: Layout) -> tuple[Component, ...]:
    """The arrays that store a parameter of ``type_``: one for floats, codes and all else for a format."""
    shape = tuple(int(dim) for dim in type_.shape) or (1,)  # a number is stored as an array of one
    element = type_.element
    if isinstance(element, ScalarType):
        dtype = "uint16" if element is ScalarType.BFLOAT16 else element.value
        if layout is Layout.BLOCKED and element is ScalarType.BFLOAT16:
            shape = (_all_blocks(shape[:-1]), num_pairs(shape[-1]), BLOCK, 2)
        elif layout is Layout.BLOCKED:
            shape = (_all_blocks(shape[:-1]), shape[-1], BLOCK)
        elif layout is Layout.PADDED:
            shape = (_all_blocks(shape) * BLOCK,)
        return (Component("", shape, dtype),)
    if layout is not Layout.BLOCKED:
        raise CompileError(f"a parameter of {type_} can only be the matrix of a product or an embedding")
    if isinstance(element.codes, CodeBook) and len(element.codes.table) > LARGEST_TABLE:
        raise CompileError(f"a parameter of {type_}: code books have up to {LARGEST_TABLE} values on CPU")
    size = element.group_size
    if size is not None and SPAN % size and size % SPAN:
        raise CompileError(f"a parameter of {type_}: groups must divide {SPAN} or be a multiple of it on CPU")
    return coded_components(element, _all_blocks(shape[:-1]), shape[-1])


def coded_components(quant_format: QuantFormat, blocks: int, inputs: int) -> tuple[Component, ...]:
    """The arrays that store ``blocks`` of rows of ``inputs`` elements in ``quant_format``."""
    factors = [
        component
        for component in quant_format.components[1:]
        if component.name != "offsets" or not are_paired(quant_format)
    ]
    return (
        Component(".codes", (blocks, -(-inputs // SPAN) * span_bytes(quant_format)), "uint8"),
        *(
            Component(
                f".{factor.name}",
                (blocks, 1 if factor.size is None else inputs // factor.size, BLOCK),
                "uint16" if factor.dtype == ml_dtypes.bfloat16 else factor.dtype.name,
            )
            for factor in factors
        ),
    )


def are_paired(quant_format: QuantFormat) -> bool:
    """Whether scales and offsets are of four bits, and share bytes."""
    offset = quant_format.offset
    return offset is not None and quant_format.scale.bits == offset.factor.bits == 4


def span_bytes(quant_format: QuantFormat) -> int:
    """Bytes of the codes of a span of a block's inputs."""
    return SPAN * BLOCK * quant_format.bits // 8


def planes_of(bits: int) -> tuple[tuple[int, int], ...]:
    """The planes of codes of ``bits`` bits: each one's width, and the lowest bit of the codes it holds."""
    widths = [width for width in (8, 4, 2, 1) if bits & width]
    return tuple((width, sum(widths[:index])) for index, width in enumerate(widths))


def _all_blocks(shape: tuple[int, ...]) -> int:
    """Blocks that hold ``[outputs]``, or ``[experts, outputs]``."""
    return math.prod(shape[:-1]) * num_blocks(shape[-1])


def pack(array: Array, layout: Layout) -> tuple[npt.NDArray[np.generic], ...]:
    """The arrays of :func:`components` for a parameter's value."""
    if isinstance(array, QuantizedArray):
        codes, *factors = array.components.values()
        if are_paired(array.format):
            scales, offsets, *factors = factors
            factors = [scales | offsets << np.uint8(4), *factors]
        return (_pack_codes(codes, array.format), *map(_pack_factors, factors))
    paired = array.dtype == ml_dtypes.bfloat16
    if paired:
        array = array.view(np.uint16)
    if layout is Layout.BLOCKED and paired:
        array = _paired(_blocked(array))
    elif layout is Layout.BLOCKED:
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


def _paired(blocked: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """``[blocks, 16, inputs]`` as ``[blocks, pairs, 16, 2]``, filled up with zeros."""
    missing = 2 * num_pairs(blocked.shape[-1]) - blocked.shape[-1]
    if missing:
        blocked = np.pad(blocked, ((0, 0), (0, 0), (0, missing)))
    return blocked.reshape(len(blocked), BLOCK, -1, 2).transpose(0, 2, 1, 3)


def _pack_factors(factors: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Scales or offsets ``[..., outputs, groups]`` in blocks."""
    stored = factors.view(np.uint16) if factors.dtype == ml_dtypes.bfloat16 else factors
    return np.ascontiguousarray(_blocked(stored).transpose(0, 2, 1))


def _pack_codes(codes: npt.NDArray[np.generic], quant_format: QuantFormat) -> npt.NDArray[np.uint8]:
    """Codes ``[..., outputs, inputs]`` in blocks, spans and planes."""
    bits, blocked = quant_format.bits, _blocked(codes)
    if missing := -codes.shape[-1] % SPAN:
        blocked = np.pad(blocked, ((0, 0), (0, 0), (0, missing)))
    unsigned = blocked.view(np.uint8)
    if codes.dtype == np.int8:
        unsigned = unsigned + np.uint8(1 << (bits - 1))
    fours = unsigned.reshape(len(blocked), BLOCK, -1, SPAN // 4, 4).transpose(0, 2, 3, 1, 4)
    planes = []
    for width, lowest in planes_of(bits):
        slots = 8 // width
        plane = fours >> np.uint8(lowest) & np.uint8((1 << width) - 1)
        apart = plane.reshape(*plane.shape[:2], -1, slots, 4 * BLOCK)
        shifts = (width * np.arange(slots, dtype=np.uint8))[:, None]
        planes.append(np.bitwise_or.reduce(apart << shifts, axis=3))
    return np.concatenate(planes, axis=2).reshape(len(blocked), -1)
