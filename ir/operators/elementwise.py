"""Operators that work element by element, and casts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np

from ..operator import Array, Attribute, operator
from ..quantization import QuantizedArray, dequantize
from ..types import ScalarType, TensorType
from ._infer import FloatArray, as_float32, broadcast, plain, require, same

__all__ = ["ACTIVATIONS", "sigmoid"]


def sigmoid(x: FloatArray) -> FloatArray:
    """``1 / (1 + exp(-x))``."""
    with np.errstate(over="ignore"):  # exp(-x) may overflow to infinity, and 1 / infinity is the limit
        return np.divide(np.float32(1), np.float32(1) + np.exp(-x), dtype=np.float32)


def _silu(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):  # exp(-x) may overflow to infinity, and x / infinity is the limit
        return np.divide(x, np.float32(1) + np.exp(-x), dtype=np.float32)


def _gelu(x: FloatArray) -> FloatArray:
    """``x`` times the normal distribution function of ``x`` (Hendrycks and Gimpel, 2016)."""
    share: FloatArray = _NORMAL_DISTRIBUTION(x)
    return np.multiply(x, share, dtype=np.float32)


_NORMAL_DISTRIBUTION = np.vectorize(lambda x: 0.5 * math.erfc(-x * math.sqrt(0.5)), otypes=[np.float32])


def _gelu_tanh(x: FloatArray) -> FloatArray:
    """The same with the approximation by tanh that its authors give."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    share: FloatArray = np.float32(0.5) * (np.float32(1) + np.tanh(inner))
    return np.multiply(x, share, dtype=np.float32)


ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
"""What stands between the projections of a feed-forward layer; each has a fused gate, ``NAME_mul``."""

_UNARY: dict[str, Callable[[FloatArray], FloatArray]] = {
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "cos": np.cos,
    "sin": np.sin,
    "rsqrt": lambda x: np.reciprocal(np.sqrt(x)),
    "square": np.square,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "floor": np.floor,
    **ACTIVATIONS,
}

_BINARY: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "greater": lambda left, right: np.greater(left, right).astype(np.float32),
}


def _register_unary(name: str, function: Callable[[FloatArray], FloatArray]) -> None:
    @operator(name, same)
    def evaluate(
        operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
    ) -> tuple[Array, ...]:
        return (function(as_float32(operands[0])).astype(plain(operands[0]).dtype, copy=False),)


def _register_binary(name: str, function: Callable[[FloatArray, FloatArray], FloatArray]) -> None:
    @operator(name, broadcast, operands=2)
    def evaluate(
        operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
    ) -> tuple[Array, ...]:
        left, right = operands
        return (function(as_float32(left), as_float32(right)).astype(plain(left).dtype, copy=False),)


for _name, _unary in _UNARY.items():
    _register_unary(_name, _unary)
for _name, _binary in _BINARY.items():
    _register_binary(_name, _binary)


def _infer_where(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    condition, first, second = types
    (result,) = broadcast((first, second), attributes)
    (whole_,) = broadcast((result, condition), attributes)
    return (whole_,)


@operator("where", _infer_where, operands=3)
def _where(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The second operand where the first is not 0, else the third: neither's infinities reach the other."""
    condition, first, second = map(as_float32, operands)
    return (np.where(condition != 0, first, second).astype(np.float32, copy=False),)


def _infer_cast(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    to = cast(str, attributes["to"])
    require(to in ScalarType._value2member_map_, f"'{to}' is no scalar type to cast to")
    return (TensorType(types[0].shape, ScalarType(to)),)


@operator("cast", _infer_cast, to=str)
def _cast(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Elements as another scalar type; those in a quantization format by way of float32."""
    (array,) = operands
    wide = dequantize(array) if isinstance(array, QuantizedArray) else array
    return (wide.astype(ScalarType(cast(str, attributes["to"])).numpy),)
