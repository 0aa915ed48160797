"""Quantization formats are data: one declaration each, from which everything else derives."""

from .array import QuantizedArray, dequantize
from .blocks import BLOCK_LAYOUTS, pack_blocks, unpack_blocks
from .format import (
    CodeBook,
    Component,
    Factor,
    Float8,
    Integers,
    Offset,
    OffsetRole,
    QuantFormat,
    Rounding,
)
from .formats import FAMILIES, FORMATS, find_format
from .rounding import quantize

__all__ = [
    "BLOCK_LAYOUTS",
    "FAMILIES",
    "FORMATS",
    "CodeBook",
    "Component",
    "Factor",
    "Float8",
    "Integers",
    "Offset",
    "OffsetRole",
    "QuantFormat",
    "QuantizedArray",
    "Rounding",
    "dequantize",
    "find_format",
    "pack_blocks",
    "quantize",
    "unpack_blocks",
]
