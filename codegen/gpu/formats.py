"""Weights in a quantization format as templates take them: types that follow from its declaration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ir import QuantFormat
from ...ir.errors import CompileError
from ...ir.quantization import CodeBook, Factor, Float8, Integers, OffsetRole
from ..kernels.layout import are_paired

__all__ = ["NUMBERS", "CodedType", "coded_type"]

NUMBERS = {
    "float16": ("unsigned short", "Float16"),
    "bfloat16": ("unsigned short", "BFloat16"),
    "float32": ("float", "Float32"),
    "e4m3": ("unsigned char", "E4M3"),
    "e8m0": ("unsigned char", "PowerOfTwo<127>"),
    "e8m0_half": ("unsigned char", "PowerOfTwo<128>"),
    **dict.fromkeys(("int5", "int6", "int8"), ("signed char", "SignedByte")),
    **dict.fromkeys(("uint4", "uint6", "uint8"), ("unsigned char", "UnsignedByte")),
    "low_half": ("unsigned char", "LowHalf"),
    "high_half": ("unsigned char", "HighHalf"),
}
"""Types of scales and offsets, and halves of bytes: how they are stored, and the template's name."""

_FLOATS = {"float8_e4m3fn": "E4M3", "float8_e5m2": "E5M2"}

_TABLE_BYTES = 16
"""Of a table of whole numbers in registers."""


@dataclass(frozen=True, slots=True)
class CodedType:
    """What stands for a matrix in a format: a C++ type, a value of it, and the parameters it is made of.

    ``parameters`` are declarations by the suffix of the array that each takes (see ``kernels/layout.py``).
    """

    name: str
    value: str
    parameters: Mapping[str, str]


def coded_type(quant_format: QuantFormat, inputs: int) -> CodedType:
    """The type for rows of ``inputs``; raises :class:`CompileError` where groups are of less than four."""
    size = quant_format.group_size
    if size is not None and size % 4:
        raise CompileError(
            f"weights in {quant_format.name} have no kernel on GPUs: groups of whole fours have"
        )
    offset, is_paired = quant_format.offset, are_paired(quant_format)
    kind, zero = _kind(quant_format)
    scales = _Factor("scales", quant_format.scale, "low_half" if is_paired else None)
    parameters = {".codes": "GLOBAL const unsigned char* weights"} | scales.parameters
    moved, given = "NoOffsets", "{}"
    if offset is not None:
        stored = _Factor("offsets", offset.factor, "high_half" if is_paired else None)
        if zero and offset.role is not OffsetRole.ZERO_POINT:
            raise CompileError(
                f"weights in {quant_format.name} have no kernel on GPUs: minima of 8-bit codes"
            )
        moved = _moved(offset.role, stored.type(inputs), zero)
        given = "{" + stored.value + "}"
        parameters |= stored.parameters
    is_whole = str(quant_format.is_whole_by_row).lower()
    name = f"CodedWeights<{kind}, {inputs}, {scales.type(inputs)}, {moved}, {is_whole}>"
    return CodedType(name, f"{name}{{weights, {scales.value}, {given}}}", parameters)


@dataclass(frozen=True, slots=True)
class _Factor:
    """Scales or offsets, by the name of their array; of two that share bytes, which ``half``."""

    name: str
    declared: Factor
    half: str | None

    @property
    def _arrays(self) -> tuple[tuple[str, str, int | None], ...]:
        """The name, type and group size of each array."""
        own = "scales" if self.half else self.name, self.half or self.declared.type, self.declared.size
        of = self.declared.of
        return (own,) if of is None else (own, (f"super_{self.name}", of.type, of.size))

    def type(self, inputs: int) -> str:
        """The C++ type."""
        parts = [f"Numbers<{NUMBERS[type_][1]}, {inputs}, {size or 0}>" for _, type_, size in self._arrays]
        return parts[0] if len(parts) == 1 else f"Multiples<{', '.join(parts)}>"

    @property
    def value(self) -> str:
        """What makes one of the parameters."""
        parts = [f"{{{name}}}" for name, _, _ in self._arrays]
        return parts[0] if len(parts) == 1 else f"{{{', '.join(parts)}}}"

    @property
    def parameters(self) -> dict[str, str]:
        """Declarations by the suffix of the array."""
        return {f".{name}": f"GLOBAL const {NUMBERS[type_][0]}* {name}" for name, type_, _ in self._arrays}


def _moved(role: OffsetRole, stored: str, zero: int) -> str:
    """The type of offsets; ``zero`` is what codes without a sign stand for less than they are."""
    match role:
        case OffsetRole.ADDED:
            return f"AddedOffsets<{stored}, 1>"
        case OffsetRole.SUBTRACTED:
            return f"AddedOffsets<{stored}, -1>"
        case OffsetRole.ZERO_POINT:
            return f"ZeroPoints<{stored}, {zero}>"


def _kind(quant_format: QuantFormat) -> tuple[str, int]:
    """The type of codes, and what zero points are more than these have them."""
    codes = quant_format.codes
    match codes:
        case Integers():
            # Without a sign they lie as they are; those of eight bits become signed for products of bytes.
            zero = 128 if codes.bits == 8 else -codes.smallest
            return f"WholeCodes<{codes.bits}, {zero}>", 0 if codes.signed else zero
        case Float8():
            return f"FloatCodes<{_FLOATS[codes.type]}>", 0
        case CodeBook() if codes.is_integer:
            zero = -int(min(codes.table))
            table = np.zeros(_TABLE_BYTES, np.uint8)
            table[: len(codes.table)] = [int(value) + zero for value in codes.table]
            words = ", ".join(f"{word:#x}u" for word in table.view("<u4"))
            return f"WholeBook<{codes.bits}, {zero}, {words}>", 0
        case CodeBook():
            words = ", ".join(f"{word:#x}u" for word in codes.values.view(np.uint32))
            return f"FloatBook<{codes.bits}, {words}>", 0
