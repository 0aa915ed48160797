"""What a quantization format is: one declarative value, composed of what its codes, scales and offsets are.

A row is divided into groups of neighbours. Each element has a *code*, each group a *scale* and perhaps an
*offset*; scale and offset may in turn be small numbers times one of a larger group, a super-block. All that
is known of a format derives from this declaration: rounding and its opposite, the interpreter's meaning, the
bytes it takes, how it is packed for a target and how a kernel reads it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ..errors import IRError

__all__ = [
    "CodeBook",
    "Codes",
    "Component",
    "Factor",
    "Float8",
    "FloatArray",
    "Integers",
    "Offset",
    "OffsetRole",
    "QuantFormat",
    "Rounding",
]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Integers:
    """Whole numbers of ``bits`` bits: in two's complement, or from 0 on where they are not ``signed``."""

    bits: int
    signed: bool = True

    @property
    def smallest(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def largest(self) -> int:
        """The largest code."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def values(self) -> FloatArray:
        """What codes stand for, ascending."""
        return np.arange(self.smallest, self.largest + 1, dtype=np.float32)

    def decode(self, codes: npt.NDArray[np.integer]) -> FloatArray:
        """What ``codes`` stand for."""
        return codes.astype(np.float32)


@dataclass(frozen=True, slots=True)
class CodeBook:
    """Places in a table of values."""

    table: tuple[float, ...]

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return (len(self.table) - 1).bit_length()

    @property
    def is_integer(self) -> bool:
        """Whether the values are whole numbers of eight bits."""
        return all(float(value).is_integer() and -128 <= value <= 127 for value in self.table)

    @property
    def values(self) -> FloatArray:
        """What codes stand for, in the order of the codes."""
        return np.array(self.table, np.float32)

    def decode(self, codes: npt.NDArray[np.integer]) -> FloatArray:
        """What ``codes`` stand for."""
        return np.take(self.values, codes)


@dataclass(frozen=True, slots=True)
class Float8:
    """Floats of eight bits, of a type of ``ml_dtypes``: ``float8_e4m3fn`` or ``float8_e5m2``."""

    type: str

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return 8

    @property
    def values(self) -> FloatArray:
        """What codes stand for, in the order of the codes, those that are no numbers among them."""
        floats: FloatArray = np.arange(256, dtype=np.uint8).view(self.dtype).astype(np.float32)
        return floats

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy dtype (from ``ml_dtypes``)."""
        found: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, self.type))
        return found

    @property
    def largest(self) -> float:
        """The largest finite value."""
        return float(ml_dtypes.finfo(self.dtype).max)

    def decode(self, codes: npt.NDArray[np.integer]) -> FloatArray:
        """What ``codes`` stand for."""
        return np.take(self.values, codes)


Codes = Integers | CodeBook | Float8
"""What the codes of a format are. They are stored one a byte: signed integers as int8, others as uint8."""

FACTOR_TYPES: dict[str, np.dtype[np.generic]] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "e4m3": np.dtype(np.uint8),
    "e8m0": np.dtype(np.uint8),
    "e8m0_half": np.dtype(np.uint8),
    "int5": np.dtype(np.int8),
    "int6": np.dtype(np.int8),
    "int8": np.dtype(np.int8),
    "uint4": np.dtype(np.uint8),
    "uint6": np.dtype(np.uint8),
    "uint8": np.dtype(np.uint8),
}
"""Types of scales and offsets, and how they are stored.

``e4m3`` is a float of eight bits (``float8_e4m3fn``), ``e8m0`` a power of two, ``2 ** (byte - 127)``, and
``e8m0_half`` half of that, for code books whose values are doubled. ``int5`` is up to 15 either way.
"""


@dataclass(frozen=True, slots=True)
class Factor:
    """One number for each ``size`` neighbours of a row, None for the whole row.

    Its ``type`` is one of :data:`FACTOR_TYPES`. Where it is ``of`` a larger group's number, the two are
    multiplied. What a checkpoint shares between rows is repeated for each, so that rows can be taken apart.
    """

    type: str
    size: int | None
    of: Factor | None = None

    def __post_init__(self) -> None:
        if self.type not in FACTOR_TYPES:
            raise IRError(f"scales and offsets cannot be {self.type}: {', '.join(FACTOR_TYPES)} are there")
        if self.of is not None and (
            self.size is None or self.of.of is not None or (self.of.size or 0) % self.size
        ):
            raise IRError(f"groups of {self.size} do not divide super-blocks of {self.of.size}")

    @property
    def integer_bits(self) -> int | None:
        """Bits of the whole numbers it is, None for floats."""
        return int(self.type.lstrip("uint")) if self.type.lstrip("u").startswith("int") else None

    @property
    def integer_range(self) -> tuple[int, int] | None:
        """The least and the largest of the whole numbers it is, None for floats."""
        if (bits := self.integer_bits) is None:
            return None
        if self.type.startswith("uint"):
            return 0, (1 << bits) - 1
        largest = (1 << (bits - 1)) - 1
        return (-largest if self.type == "int5" else -largest - 1), largest

    @property
    def bits(self) -> int:
        """Bits of a number, which takes a byte where it is up to 15 either way."""
        return 8 if self.type == "int5" else self.integer_bits or 8 * self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """How it is stored."""
        return FACTOR_TYPES[self.type]

    @property
    def largest_size(self) -> int | None:
        """The size of the largest group there is, None for the whole row."""
        return self.size if self.of is None else self.of.size

    @property
    def block_size(self) -> int:
        """What rows must be a multiple of: the largest group that is not the whole row."""
        return (self.of.size if self.of is not None else None) or self.size or 1


class OffsetRole(Enum):
    """What becomes of an offset."""

    ADDED = "added"
    """``scale * code + offset``"""
    SUBTRACTED = "subtracted"
    """``scale * code - offset``"""
    ZERO_POINT = "zero_point"
    """``scale * (code - offset)``"""


@dataclass(frozen=True, slots=True)
class Offset:
    """What moves the values of a group away from zero."""

    role: OffsetRole
    factor: Factor


class Rounding(Enum):
    """How values find their codes where somebody quantizes to a format."""

    NEAREST = "nearest"
    """The scale lets the largest magnitude be the largest code; as for activations."""
    SEARCHED = "searched"
    """Of several scales the one with the least squared error."""
    GGML = "ggml"
    """As ``ggml`` does it, to the byte."""


@dataclass(frozen=True, slots=True)
class Component:
    """One array of a quantized tensor: its name, its dtype, and how many elements share one of its numbers
    (None: a whole row).
    """

    name: str
    dtype: np.dtype[np.generic]
    size: int | None


@dataclass(frozen=True)
class QuantFormat:
    """Codes in groups along the last dimension, with a scale and perhaps an offset a group.

    ``rows`` is the name of the format that rows on their way to such weights are rounded to, where it does
    not follow from the rest.
    """

    name: str
    codes: Codes
    scale: Factor
    offset: Offset | None = None
    rounding: Rounding = Rounding.SEARCHED
    rows: str | None = None

    def __post_init__(self) -> None:
        if self.offset is not None and self.offset.factor.size != self.scale.size:
            raise IRError(f"{self.name}: scales and offsets must be of the same groups")

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.codes.bits

    @property
    def group_size(self) -> int | None:
        """Elements that share a scale, None for a whole row."""
        return self.scale.size

    @property
    def block_size(self) -> int:
        """What rows must be a multiple of: the largest group there is."""
        return self.scale.block_size

    @property
    def is_integer(self) -> bool:
        """Whether codes stand for whole numbers of eight bits, as products of codes need them."""
        return isinstance(self.codes, Integers) or (
            isinstance(self.codes, CodeBook) and self.codes.is_integer
        )

    @property
    def has_whole_scales(self) -> bool:
        """Whether a group's scale is a whole number times its row's, and the scaled codes fit eight bits."""
        codes, bounds, of_row = self.codes, self.scale.integer_range, self.scale.of
        if not isinstance(codes, Integers) or bounds is None or of_row is None or self.offset is not None:
            return False
        fits = max(map(abs, bounds)) * -codes.smallest <= 127
        return codes.signed and fits and of_row.size is None

    @property
    def is_whole_by_row(self) -> bool:
        """Whether a row is whole numbers of eight bits times one scale: its products are one exact sum."""
        symmetric = self.offset is None or self.offset.role is OffsetRole.ZERO_POINT
        return self.is_integer and symmetric and (self.scale.size is None or self.has_whole_scales)

    def multiplies(self, rows: QuantFormat) -> bool:
        """Whether weights in this format and ``rows`` in another can be multiplied code by code.

        Then either's groups divide the other's, and rows are symmetric. Both are whole numbers, or floats of
        eight bits.
        """
        sizes = self.group_size, rows.group_size
        fits = None in sizes or max(map(int, filter(None, sizes))) % min(map(int, filter(None, sizes))) == 0
        if isinstance(rows.codes, Float8):
            return fits and isinstance(self.codes, Float8) and self.offset is None and rows.offset is None
        return fits and self.is_integer and isinstance(rows.codes, Integers) and rows.offset is None

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """The arrays of a tensor in this format, codes first."""
        is_signed = isinstance(self.codes, Integers) and self.codes.signed
        factors: list[tuple[str, Factor]] = [("scales", self.scale)]
        if self.offset is not None:
            factors.append(("offsets", self.offset.factor))
        with_super = ((f"super_{name}", factor.of) for name, factor in factors)
        factors += [(name, factor) for name, factor in with_super if factor is not None]
        return (
            Component("codes", np.dtype(np.int8 if is_signed else np.uint8), 1),
            *(Component(name, factor.dtype, factor.size) for name, factor in factors),
        )

    @property
    def bits_per_element(self) -> float:
        """Bits an element takes, its share of scales and offsets included, but not of a whole row's."""
        return self.bits + sum(factor.bits / factor.size for factor in self._factors() if factor.size)

    def _factors(self) -> Iterator[Factor]:
        for factor in (self.scale, self.offset.factor if self.offset else None):
            while factor is not None:
                yield factor
                factor = factor.of
