"""What tensors of a GGUF file are made of: numbers, or blocks of so many weights in so many bytes.

Names, numbers and sizes are those of ``ggml_type`` in ggml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...ir.quantization import BLOCK_LAYOUTS, find_format
from ...ir.types import Element, ScalarType

__all__ = ["TENSOR_TYPES", "GgufTensorType"]


@dataclass(frozen=True, slots=True)
class GgufTensorType:
    """A type: elements along a row come in blocks of ``block_size``, each ``block_bytes`` long."""

    name: str
    block_size: int
    block_bytes: int

    @property
    def element(self) -> Element | None:
        """The scalar type or the format, ``None`` where ingot has no such."""
        if self.name in _SCALARS:
            return _SCALARS[self.name]
        name = self.name.lower()
        return find_format(name) if name in BLOCK_LAYOUTS else None


_SCALARS: Mapping[str, ScalarType] = {
    "F32": ScalarType.FLOAT32,
    "F16": ScalarType.FLOAT16,
    "BF16": ScalarType.BFLOAT16,
    "I8": ScalarType.INT8,
    "I32": ScalarType.INT32,
    "I64": ScalarType.INT64,
}

TENSOR_TYPES: Mapping[int, GgufTensorType] = MappingProxyType(
    {
        0: GgufTensorType("F32", 1, 4),
        1: GgufTensorType("F16", 1, 2),
        2: GgufTensorType("Q4_0", 32, 18),
        3: GgufTensorType("Q4_1", 32, 20),
        6: GgufTensorType("Q5_0", 32, 22),
        7: GgufTensorType("Q5_1", 32, 24),
        8: GgufTensorType("Q8_0", 32, 34),
        9: GgufTensorType("Q8_1", 32, 40),
        10: GgufTensorType("Q2_K", 256, 84),
        11: GgufTensorType("Q3_K", 256, 110),
        12: GgufTensorType("Q4_K", 256, 144),
        13: GgufTensorType("Q5_K", 256, 176),
        14: GgufTensorType("Q6_K", 256, 210),
        15: GgufTensorType("Q8_K", 256, 292),
        16: GgufTensorType("IQ2_XXS", 256, 66),
        17: GgufTensorType("IQ2_XS", 256, 74),
        18: GgufTensorType("IQ3_XXS", 256, 98),
        19: GgufTensorType("IQ1_S", 256, 50),
        20: GgufTensorType("IQ4_NL", 32, 18),
        21: GgufTensorType("IQ3_S", 256, 110),
        22: GgufTensorType("IQ2_S", 256, 82),
        23: GgufTensorType("IQ4_XS", 256, 136),
        24: GgufTensorType("I8", 1, 1),
        25: GgufTensorType("I16", 1, 2),
        26: GgufTensorType("I32", 1, 4),
        27: GgufTensorType("I64", 1, 8),
        28: GgufTensorType("F64", 1, 8),
        29: GgufTensorType("IQ1_M", 256, 56),
        30: GgufTensorType("BF16", 1, 2),
        34: GgufTensorType("TQ1_0", 256, 54),
        35: GgufTensorType("TQ2_0", 256, 66),
        39: GgufTensorType("MXFP4", 32, 17),
        40: GgufTensorType("NVFP4", 64, 36),
        41: GgufTensorType("Q1_0", 128, 18),
    }
)
"""Every type by its number in files."""
