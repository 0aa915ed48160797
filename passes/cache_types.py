"""What the elements of the KV cache can be."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from ..ir import ScalarType, find_format
from ..ir.errors import CompileError
from ..ir.types import Element

__all__ = ["CacheType"]

_GROUP_SIZE = 32


class CacheType(Enum):
    """Floats, or codes that each position's heads are rounded to as they are written; the value is its name.

    Codes have a scale in float16 for each 32 elements, or for a whole head where that is not made of such
    groups. Two codes of four bits, one of each half of a head, share a byte.
    """

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bits(self) -> int:
        """Bits of an element, scales aside."""
        return {"float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "int4": 4}[self.value]

    def element(self, dims: Sequence[int]) -> Element:
        """What caches of heads of ``dims`` elements, of keys and of values, are made of.

        Raises :class:`CompileError` where heads cannot be halved and have to be.
        """
        if self.bits >= 16:
            return ScalarType(self.value)
        parts = 8 // self.bits
        odd = [dim for dim in dims if dim % parts]
        if odd:
            raise CompileError(f"heads of {odd[0]} elements cannot be kept as {self.value}, but as int8")
        in_groups = all(dim // parts % _GROUP_SIZE == 0 for dim in dims)
        return find_format(f"dynamic_{self.value}_{f'g{_GROUP_SIZE}' if in_groups else 'row'}_f16")
