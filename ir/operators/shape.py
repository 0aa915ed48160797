"""Operators that move elements without computing, and those that make tensors of nothing but numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from ..operator import Array, Attribute, operator
from ..quantization import QuantizedArray
from ..types import Dim, ScalarType, TensorType, bind_shape
from ._infer import axis_of, by_component, plain, require, require_whole_rows, whole

__all__: list[str] = []


def _infer_constant(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    value = cast(np.ndarray[tuple[int, ...], np.dtype[np.generic]], attributes["value"])
    return (TensorType(value.shape, ScalarType.of(value)),)


@operator("constant", _infer_constant, operands=0, value=np.ndarray)
def _constant(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    return (cast(Array, attributes["value"]),)


def _infer_iota(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    length = cast(int, attributes["length"])
    require(length > 0, f"iota's length must be positive, not {length}")
    return (TensorType((length,), ScalarType.INT32),)


@operator("iota", _infer_iota, operands=0, length=int)
def _iota(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    return (np.arange(cast(int, attributes["length"]), dtype=np.int32),)


def _infer_reshape(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    shape = cast(tuple[Dim, ...], attributes["shape"])

    def split(dims: Sequence[Dim]) -> tuple[list[str], int]:
        return sorted(d for d in dims if isinstance(d, str)), math.prod(d for d in dims if isinstance(d, int))

    require(split(shape) == split(types[0].shape), f"{types[0]} does not reshape to {shape}")
    require_whole_rows(types[0], shape[-1:] == types[0].shape[-1:], "reshape")
    return (types[0].with_shape(*shape),)


@operator("reshape", _infer_reshape, shape=tuple)
def _reshape(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    shape = bind_shape(cast(tuple[Dim, ...], attributes["shape"]), symbols)
    if isinstance(operands[0], QuantizedArray):
        return (operands[0].map(lambda array: array.reshape(*shape[:-1], array.shape[-1])),)
    return (operands[0].reshape(shape),)


def _infer_transpose(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    axes = cast(tuple[int, ...], attributes["axes"])
    require(sorted(axes) == list(range(types[0].rank)), f"axes {axes} do not permute {types[0]}")
    require_whole_rows(types[0], axes[-1:] == (types[0].rank - 1,), "transpose")
    return (types[0].with_shape(*(types[0].shape[axis] for axis in axes)),)


@operator("transpose", _infer_transpose, axes=tuple)
def _transpose(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    axes = cast(tuple[int, ...], attributes["axes"])
    return (by_component(operands[:1], lambda array: array.transpose(axes)),)


def _infer_concat(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    first, axis = types[0], axis_of(types[0], attributes)
    require_whole_rows(first, axis < first.rank - 1, "concat")
    total = 0
    for other in types:
        aligned = other.rank == first.rank and all(
            a == b for i, (a, b) in enumerate(zip(first.shape, other.shape, strict=True)) if i != axis
        )
        require(
            aligned and other.element == first.element, f"{first} and {other} do not join along axis {axis}"
        )
        total += whole(other.shape[axis], "the joined dimension")
    return (first.with_shape(*first.shape[:axis], total, *first.shape[axis + 1 :]),)


@operator("concat", _infer_concat, operands=(1, None), axis=int)
def _concat(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    axis = cast(int, attributes["axis"])
    return (by_component(operands, lambda *arrays: np.concatenate(arrays, axis=axis)),)


def _infer_slice(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    axis = axis_of(types[0], attributes)
    require_whole_rows(types[0], axis < types[0].rank - 1, "slice")
    start, stop = cast(int, attributes["start"]), cast(int, attributes["stop"])
    size = whole(types[0].shape[axis], "the sliced dimension")
    require(0 <= start < stop <= size, f"{start} to {stop} is no slice of axis {axis} of {types[0]}")
    return (types[0].with_shape(*types[0].shape[:axis], stop - start, *types[0].shape[axis + 1 :]),)


@operator("slice", _infer_slice, axis=int, start=int, stop=int)
def _slice(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    taken = slice(cast(int, attributes["start"]), cast(int, attributes["stop"]))
    return (operands[0][(slice(None),) * cast(int, attributes["axis"]) + (taken,)],)


def _infer_repeat(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    axis, times = axis_of(types[0], attributes), cast(int, attributes["times"])
    require_whole_rows(types[0], axis < types[0].rank - 1, "repeat")
    require(times > 0, f"repeat needs a positive count, not {times}")
    size = whole(types[0].shape[axis], "the repeated dimension")
    return (types[0].with_shape(*types[0].shape[:axis], size * times, *types[0].shape[axis + 1 :]),)


@operator("repeat", _infer_repeat, axis=int, times=int)
def _repeat(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    times, axis = cast(int, attributes["times"]), cast(int, attributes["axis"])
    return (by_component(operands[:1], lambda array: np.repeat(array, times, axis=axis)),)


def _infer_gather(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    table, rows = types
    require(rows.element is ScalarType.INT32 and rows.rank == 1, f"rows must be int32 of rank 1, not {rows}")
    return (TensorType((rows.shape[0], *table.shape[1:]), table.scalar),)


@operator("gather_rows", _infer_gather, operands=2)
def _gather(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    table, rows = map(plain, operands)
    return (table[rows.astype(np.int64)],)


def _infer_permute(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    x, order = types
    fits = x.rank >= 1 and order == TensorType(x.shape[-1:], ScalarType.INT32)
    require(fits, f"the order of the columns of {x} must be int32 with one for each, not {order}")
    return (x.with_element(x.scalar),)


@operator("permute_columns", _infer_permute, operands=2)
def _permute(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Rows ``[..., n]`` with their elements in another order; int32 ``[n]`` says where each is from."""
    x, order = map(plain, operands)
    return (x[..., order.astype(np.int64)],)


def _infer_mask(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    (positions,) = types
    require(
        positions.element is ScalarType.INT32 and positions.rank == 1,
        f"positions must be int32[n], not {positions}",
    )
    window = cast(int, attributes["window"])
    require(window >= 0, f"a window must be positive, or 0 for none, not {window}")
    return (TensorType((positions.shape[0], positions.shape[0]), ScalarType.FLOAT32),)


@operator("causal_mask", _infer_mask, window=int)
def _mask(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """0 where a query (row) sees a key (column), else -inf; a window counts the query's own position."""
    positions = plain(operands[0]).astype(np.int64)
    window = cast(int, attributes["window"])
    distance = positions[:, None] - positions[None, :]
    seen = (distance >= 0) & ((distance < window) if window else True)
    return (np.where(seen, np.float32(0), np.float32(-np.inf)),)


def _infer_length(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    _infer_mask(types, {"window": 0})
    return (TensorType((1,), ScalarType.FLOAT32),)


@operator("sequence_length", _infer_length)
def _sequence_length(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Tokens of the whole sequence, read off their positions: the largest, and one for position 0."""
    return (np.array([int(plain(operands[0]).max()) + 1], np.float32),)
