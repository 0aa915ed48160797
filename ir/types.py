"""Types of values: a shape whose dimensions may be symbols, and what one element is.

A dimension is a whole number or the name of a symbol (``tokens``, ``sequences``, ``pages``); a symbol stands
for one number throughout a graph, bound by the graph's inputs when it runs. An element is a scalar or belongs
to a quantization format (:class:`~ingot.ir.quantization.QuantFormat`), in which case the shape is still the
logical one: how codes and scales lie in memory is the target's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import ml_dtypes
import numpy as np

from .errors import IRError
from .quantization import QuantFormat, find_format

__all__ = ["Dim", "Element", "ScalarType", "TensorType", "bind_shape", "parse_element"]


_BFLOAT16: np.dtype[np.generic] = np.dtype(ml_dtypes.bfloat16)

Dim = int | str
"""One dimension: a whole number, or a symbol's name."""


class ScalarType(Enum):
    """What one unquantized element is; the value is its name in text and in manifests."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    UINT8 = "uint8"
    INT32 = "int32"
    INT64 = "int64"

    @property
    def is_float(self) -> bool:
        """Whether elements are floating-point numbers."""
        return self in (ScalarType.FLOAT32, ScalarType.FLOAT16, ScalarType.BFLOAT16)

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype (bfloat16 from ``ml_dtypes``)."""
        if self is ScalarType.BFLOAT16:
            return _BFLOAT16
        dtype: np.dtype[np.generic] = np.dtype(self.value)
        return dtype

    @property
    def num_bytes(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    @classmethod
    def of(cls, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ScalarType:
        """The scalar type of a numpy array; raises :class:`IRError` for one that has none here."""
        try:
            return cls(array.dtype.name)
        except ValueError:
            raise IRError(f"numpy dtype {array.dtype.name} has no scalar type in the IR") from None


Element = ScalarType | QuantFormat
"""What a tensor is made of."""


def parse_element(name: str) -> Element:
    """The element type called ``name``; raises :class:`IRError` if there is none."""
    if name in ScalarType._value2member_map_:
        return ScalarType(name)
    return find_format(name)


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor of ``shape`` whose elements are ``element``."""

    shape: tuple[Dim, ...]
    element: Element

    def __post_init__(self) -> None:
        for dim in self.shape:
            if isinstance(dim, str) and not (dim.isidentifier() and dim.isascii()):
                raise IRError(f"'{dim}' is not a dimension: whole numbers and symbol names are")
            if isinstance(dim, int) and dim < 0:
                raise IRError(f"dimension {dim} is negative")
        if isinstance(self.element, QuantFormat):
            last = self.shape[-1] if self.shape else None
            if not isinstance(last, int) or last % self.element.block_size:
                raise IRError(
                    f"format {self.element.name} needs a last dimension that is a multiple of its block size "
                    f"{self.element.block_size}, not {last}"
                )

    def __str__(self) -> str:
        name = self.element.name if isinstance(self.element, QuantFormat) else self.element.value
        return f"{name}[{', '.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def scalar(self) -> ScalarType:
        """The scalar element; raises :class:`IRError` where the element is a quantization format."""
        if isinstance(self.element, QuantFormat):
            raise IRError(f"{self} is quantized where a scalar type is needed")
        return self.element

    def with_shape(self, *shape: Dim) -> TensorType:
        """The same elements in another shape."""
        return TensorType(tuple(shape), self.element)

    def with_element(self, element: Element) -> TensorType:
        """The same shape of other elements."""
        return TensorType(self.shape, element)


def bind_shape(shape: Sequence[Dim], symbols: Mapping[str, int]) -> tuple[int, ...]:
    """``shape`` in numbers; raises :class:`IRError` naming a symbol without one."""
    try:
        return tuple(dim if isinstance(dim, int) else symbols[dim] for dim in shape)
    except KeyError as missing:
        raise IRError(f"symbol {missing} of shape {tuple(shape)} has no value") from None
