"""Pieces of type inference that several kinds of operator share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import IRError
from ..operator import Array, Attribute
from ..quantization import QuantFormat, QuantizedArray, dequantize
from ..types import Dim, ScalarType, TensorType

__all__ = [
    "FloatArray",
    "as_float32",
    "axis_of",
    "broadcast",
    "by_component",
    "floats",
    "plain",
    "require",
    "require_whole_rows",
    "same",
    "softplus",
    "whole",
]

FloatArray = npt.NDArray[np.float32]


def require(condition: bool, message: str) -> None:
    """Raise :class:`IRError` with ``message`` unless ``condition``."""
    if not condition:
        raise IRError(message)


def same(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    """One result of the only operand's type, which must be of floats."""
    require(types[0].scalar.is_float, f"needs floats, not {types[0]}")
    return (types[0],)


def broadcast(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    """numpy's broadcasting of two operands of one element type; a symbol fits itself and 1."""
    left, right = types
    require(left.element == right.element, f"element types differ: {left} and {right}")
    rank = max(left.rank, right.rank)
    shape: list[Dim] = []
    for a, b in zip(_padded(left.shape, rank), _padded(right.shape, rank), strict=True):
        require(a == b or a == 1 or b == 1, f"shapes do not broadcast: {left} and {right}")
        shape.append(b if a == 1 else a)
    return (TensorType(tuple(shape), left.element),)


def _padded(shape: tuple[Dim, ...], rank: int) -> tuple[Dim, ...]:
    return (1,) * (rank - len(shape)) + shape


def axis_of(type_: TensorType, attributes: Mapping[str, Attribute], key: str = "axis") -> int:
    """The axis attribute, checked against the rank."""
    axis = cast(int, attributes[key])
    require(0 <= axis < type_.rank, f"{key} {axis} is outside {type_}")
    return axis


def whole(dim: Dim, what: str) -> int:
    """``dim`` as a number; raises where it is a symbol."""
    require(isinstance(dim, int), f"{what} must be a whole number, not the symbol {dim}")
    return cast(int, dim)


def floats(type_: TensorType, what: str) -> ScalarType:
    """The scalar type, required to be of floats."""
    require(type_.scalar.is_float, f"{what} must be of floats, not {type_}")
    return type_.scalar


def require_whole_rows(type_: TensorType, keeps: bool, what: str) -> None:
    """Raise :class:`IRError` where ``type_`` is quantized and ``what`` does not keep its rows whole."""
    if isinstance(type_.element, QuantFormat):
        require(keeps, f"{what} does not keep the rows of {type_} whole, which only an unquantized one can")


def by_component(arrays: Sequence[Array], function: Callable[..., npt.NDArray[Any]]) -> Array:
    """``function`` of ``arrays``, plain ones or quantized ones in one format: then of each component."""
    quantized = [array for array in arrays if isinstance(array, QuantizedArray)]
    if not quantized:
        plain_result: Array = function(*arrays)
        return plain_result
    parts = [array.components for array in quantized]
    return QuantizedArray(
        quantized[0].format, **{name: function(*(part[name] for part in parts)) for name in parts[0]}
    )


def plain(array: Array) -> npt.NDArray[np.generic]:
    """``array`` as numpy holds it; raises where it is quantized."""
    if isinstance(array, QuantizedArray):
        raise IRError(f"a tensor in format {array.format.name} came where a plain one is needed")
    return array


def as_float32(array: Array) -> FloatArray:
    """``array`` in float32, dequantized where it is quantized."""
    if isinstance(array, QuantizedArray):
        return dequantize(array)
    return array.astype(np.float32, copy=False)


def softplus(x: FloatArray) -> FloatArray:
    """``log(1 + exp(x))``."""
    return np.logaddexp(x, np.float32(0), dtype=np.float32)
