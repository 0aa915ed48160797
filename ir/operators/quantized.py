"""Rounding to a quantization format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ..operator import Array, Attribute, operator
from ..quantization import find_format, quantize
from ..types import TensorType
from ._infer import as_float32, floats

__all__: list[str] = []


def _infer_quantize(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    floats(types[0], "quantize's operand")
    return (TensorType(types[0].shape, find_format(cast(str, attributes["format"]))),)


@operator("quantize", _infer_quantize, format=str)
def _quantize(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    return (quantize(as_float32(operands[0]), find_format(cast(str, attributes["format"]))),)
