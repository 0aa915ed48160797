"""Operators that reduce along an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from ..operator import Array, Attribute, operator
from ..types import TensorType
from ._infer import as_float32, axis_of, floats, plain

__all__: list[str] = []


def _infer_mean(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    floats(types[0], "mean's operand")
    axis = axis_of(types[0], attributes)
    return (types[0].with_shape(*types[0].shape[:axis], 1, *types[0].shape[axis + 1 :]),)


@operator("mean", _infer_mean, axis=int)
def _mean(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    mean = as_float32(operands[0]).mean(axis=cast(int, attributes["axis"]), keepdims=True)
    return (mean.astype(plain(operands[0]).dtype, copy=False),)


def _infer_softmax(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    floats(types[0], "softmax's operand")
    axis_of(types[0], attributes)
    return (types[0],)


@operator("softmax", _infer_softmax, axis=int)
def _softmax(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    scores, axis = as_float32(operands[0]), cast(int, attributes["axis"])
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    weights /= weights.sum(axis=axis, keepdims=True)
    return (weights.astype(plain(operands[0]).dtype, copy=False),)
