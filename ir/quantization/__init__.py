"""Quantization formats are data: one declaration each, from which everything else derives."""

from .array import QuantizedArray, dequantize, scales_and_zeros
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
from .rounding import SEARCH_STEPS, quantize
from .whole_scales import WHOLE_REFITS

__all__ = [
    "BLOCK_LAYOUTS",
    "FAMILIES",
    "FORMATS",
    "SEARCH_STEPS",
    "WHOLE_REFITS",
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
    "scales_and_zeros",
    "unpack_blocks",
]
