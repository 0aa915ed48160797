"""Blocks of bytes, as GGUF files hold them: where each component's bits lie, and moving them out and in.

A block is described by :class:`Bits`, each of which says that some bits of neighbouring bytes are some bits
of some of a component's numbers. Reading and writing are one function each, for every format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ..errors import IRError
from .array import QuantizedArray
from .format import Component, Integers, QuantFormat
from .formats import find_format

__all__ = ["BLOCK_LAYOUTS", "Bits", "BlockLayout", "pack_blocks", "unpack_blocks"]

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Bits:
    """``num_bytes`` bytes from ``start``, whose bits belong to numbers of ``component`` from ``first`` on.

    A byte holds a number's ``width`` bits, from bit ``at`` of the number on, in each of its ``slots``, which
    follow each other from bit ``shift`` of the byte. Numbers that are neighbours lie in the same slot of
    ``inner`` neighbouring bytes, then in the next slot of these bytes, then in the next bytes. Numbers of 16
    bits take two bytes, the low one first.
    """

    component: str
    start: int
    num_bytes: int
    width: int = 8
    inner: int = 1
    at: int = 0
    shift: int = 0
    slots: int = 0
    first: int = 0

    @property
    def num_slots(self) -> int:
        """Numbers that share a byte: as many as fit unless ``slots`` says otherwise."""
        return self.slots or max(8 // self.width, 1)

    @property
    def numbers(self) -> slice:
        """The component's numbers that have bits here."""
        return slice(self.first, self.first + self.num_bytes * self.num_slots * 8 // max(self.width, 8))


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """A block of ``size`` elements in ``num_bytes`` bytes."""

    size: int
    num_bytes: int
    bits: tuple[Bits, ...]


def _nibbles(start: int, num_bytes: int, inner: int) -> Bits:
    return Bits("codes", start, num_bytes, 4, inner)


def _half(component: str, start: int) -> Bits:
    return Bits(component, start, 2, width=16)


def _six_bits(start: int) -> tuple[Bits, ...]:
    """Eight scales and eight offsets in twelve bytes: those from the fourth on are taken apart."""
    return (
        Bits("scales", start, 4, 6, 4, slots=1),
        Bits("offsets", start + 4, 4, 6, 4, slots=1),
        Bits("scales", start + 8, 4, 4, 4, slots=1, first=4),
        Bits("offsets", start + 8, 4, 4, 4, slots=1, first=4, shift=4),
        Bits("scales", start, 4, 2, 4, at=4, slots=1, first=4, shift=6),
        Bits("offsets", start + 4, 4, 2, 4, at=4, slots=1, first=4, shift=6),
    )


BLOCK_LAYOUTS: Mapping[str, BlockLayout] = MappingProxyType(
    {
        "q4_0": BlockLayout(32, 18, (_half("scales", 0), _nibbles(2, 16, 16))),
        "q4_1": BlockLayout(32, 20, (_half("scales", 0), _half("offsets", 2), _nibbles(4, 16, 16))),
        "q5_0": BlockLayout(32, 22, (_half("scales", 0), Bits("codes", 2, 4, 1, at=4), _nibbles(6, 16, 16))),
        "q5_1": BlockLayout(
            32,
            24,
            (
                _half("scales", 0),
                _half("offsets", 2),
                Bits("codes", 4, 4, 1, at=4),
                _nibbles(8, 16, 16),
            ),
        ),
        "q8_0": BlockLayout(32, 34, (_half("scales", 0), Bits("codes", 2, 32))),
        "q2_k": BlockLayout(
            256,
            84,
            (
                Bits("scales", 0, 16, 4, slots=1),
                Bits("offsets", 0, 16, 4, slots=1, shift=4),
                Bits("codes", 16, 64, 2, 32),
                _half("super_scales", 80),
                _half("super_offsets", 82),
            ),
        ),
        "q3_k": BlockLayout(
            256,
            110,
            (
                Bits("codes", 0, 32, 1, 32, at=2),
                Bits("codes", 32, 64, 2, 32),
                Bits("scales", 96, 8, 4, 8),
                Bits("scales", 104, 4, 2, 4, at=4),
                _half("super_scales", 108),
            ),
        ),
        "q4_k": BlockLayout(
            256,
            144,
            (
                _half("super_scales", 0),
                _half("super_offsets", 2),
                *_six_bits(4),
                _nibbles(16, 128, 32),
            ),
        ),
        "q5_k": BlockLayout(
            256,
            176,
            (
                _half("super_scales", 0),
                _half("super_offsets", 2),
                *_six_bits(4),
                Bits("codes", 16, 32, 1, 32, at=4),
                _nibbles(48, 128, 32),
            ),
        ),
        "q6_k": BlockLayout(
            256,
            210,
            (
                _nibbles(0, 128, 64),
                Bits("codes", 128, 64, 2, 32, at=4),
                Bits("scales", 192, 16),
                _half("super_scales", 208),
            ),
        ),
        "iq4_nl": BlockLayout(32, 18, (_half("scales", 0), _nibbles(2, 16, 16))),
        "iq4_xs": BlockLayout(
            256,
            136,
            (
                _half("super_scales", 0),
                Bits("scales", 2, 2, 2, at=4),
                Bits("scales", 4, 4, 4),
                _nibbles(8, 128, 16),
            ),
        ),
        "mxfp4": BlockLayout(32, 17, (Bits("scales", 0, 1), _nibbles(1, 16, 16))),
    }
)
"""The blocks of ``ggml``'s types, by the name of their format."""


def _layout_of(quant_format: QuantFormat) -> BlockLayout:
    if quant_format.name not in BLOCK_LAYOUTS:
        raise IRError(
            f"format {quant_format.name} has no layout in blocks; {', '.join(BLOCK_LAYOUTS)} have one"
        )
    return BLOCK_LAYOUTS[quant_format.name]


def unpack_blocks(name: str, raw: Bytes) -> QuantizedArray:
    """The tensor that bytes ``[..., blocks * bytes of a block]`` hold in the format called ``name``.

    Raises :class:`IRError` where the bytes are no whole blocks, or the format has no such layout.
    """
    quant_format = find_format(name)
    layout = _layout_of(quant_format)
    *lead, width = raw.shape
    if raw.dtype != np.uint8 or width % layout.num_bytes:
        raise IRError(
            f"rows of {width} {raw.dtype} are no whole blocks of {layout.num_bytes} bytes, as {name} has"
        )
    num_blocks = width // layout.num_bytes
    blocks = raw.reshape(-1, layout.num_bytes)
    arrays = {}
    for component in quant_format.components:
        unsigned = _gather(blocks, layout, component)
        bias = _bias(quant_format, component)
        numbers = (unsigned - bias).view(component.dtype) if component.dtype.kind != "f" else unsigned
        arrays[component.name] = numbers.view(component.dtype).reshape(*lead, num_blocks * numbers.shape[-1])
    return QuantizedArray(quant_format, **arrays)


def pack_blocks(array: QuantizedArray) -> Bytes:
    """The bytes ``[..., blocks * bytes of a block]`` of ``array``: the opposite of :func:`unpack_blocks`."""
    layout = _layout_of(array.format)
    *lead, width = array.shape
    blocks = np.zeros((prod(lead) * (width // layout.size), layout.num_bytes), np.uint8)
    for component in array.format.components:
        numbers = array.components[component.name].reshape(len(blocks), -1)
        stored = np.ascontiguousarray(numbers).view(f"u{component.dtype.itemsize}")
        _scatter(blocks, layout, component, stored + _bias(array.format, component))
    return blocks.reshape(*lead, -1)


def _bias(quant_format: QuantFormat, component: Component) -> np.unsignedinteger[npt.NBitBase]:
    """What is added to signed numbers of less than eight bits, so that they are stored from 0 on."""
    bias, codes, bits = 0, quant_format.codes, quant_format.scale.integer_bits
    if component.name == "codes" and isinstance(codes, Integers) and codes.bits < 8:
        bias = -codes.smallest
    elif component.name == "scales" and component.dtype == np.int8 and bits is not None and bits < 8:
        bias = 1 << (bits - 1)
    return np.dtype(f"u{component.dtype.itemsize}").type(bias)  # type: ignore[no-any-return]


def _gather(blocks: Bytes, layout: BlockLayout, component: Component) -> npt.NDArray[np.unsignedinteger]:
    """A component's numbers ``[blocks, numbers of a block]`` as they are stored."""
    per_block = layout.size // (component.size or layout.size)
    unsigned = np.zeros((len(blocks), per_block), f"u{component.dtype.itemsize}")
    for bits in (bits for bits in layout.bits if bits.component == component.name):
        region = np.ascontiguousarray(blocks[:, bits.start : bits.start + bits.num_bytes])
        if bits.width >= 8:
            unsigned[:, bits.numbers] = region.view(unsigned.dtype)
            continue
        shifts = (bits.shift + bits.width * np.arange(bits.num_slots)).astype(np.uint8)[:, None]
        apart = region.reshape(len(blocks), -1, 1, bits.inner) >> shifts & np.uint8((1 << bits.width) - 1)
        unsigned[:, bits.numbers] |= apart.reshape(len(blocks), -1) << np.uint8(bits.at)
    return unsigned


def _scatter(
    blocks: Bytes, layout: BlockLayout, component: Component, unsigned: npt.NDArray[np.unsignedinteger]
) -> None:
    """Put numbers ``[blocks, numbers of a block]`` into their bits."""
    for bits in (bits for bits in layout.bits if bits.component == component.name):
        region = blocks[:, bits.start : bits.start + bits.num_bytes]
        numbers = np.ascontiguousarray(unsigned[:, bits.numbers])
        if bits.width >= 8:
            region[...] = numbers.view(np.uint8)
            continue
        shifts = (bits.shift + bits.width * np.arange(bits.num_slots)).astype(np.uint8)[:, None]
        apart = numbers >> np.uint8(bits.at) & np.uint8((1 << bits.width) - 1)
        apart = apart.reshape(len(blocks), -1, bits.num_slots, bits.inner) << shifts
        region |= np.bitwise_or.reduce(apart, axis=2).reshape(len(blocks), -1)
