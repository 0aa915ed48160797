"""Rows taken apart, joined, looked up: what computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from ...ir import Dim, Operation, TensorType, Value
from ...ir.errors import CompileError
from .step import Rule, Step

__all__ = ["RULES"]


def _constant(step: Step, operation: Operation) -> None:
    step.alias(operation.result, step.constant(np.asarray(operation.attributes["value"])))


def _iota(step: Step, operation: Operation) -> None:
    length = cast(int, operation.attributes["length"])
    step.alias(operation.result, step.constant(np.arange(length, dtype=np.int32)))


def _reshape(step: Step, operation: Operation) -> None:
    (source,) = operation.operands
    step.reshape(step.name(source), _sizes(source.type, operation.result.type), operation.result)


def _sizes(source: TensorType, result: TensorType) -> list[int]:
    """The shape of ``result`` as numbers: a symbol is what is left, or stays where it is."""

    def size(place: int, dim: Dim) -> int:
        if isinstance(dim, int):
            return dim
        return 0 if place < source.rank and source.shape[place] == dim else -1

    sizes = [size(place, dim) for place, dim in enumerate(result.shape)]
    if sizes.count(-1) > 1:
        raise CompileError(f"a reshape of {source} to {result} cannot be said in ONNX")
    return sizes


def _slice(step: Step, operation: Operation) -> None:
    """Slices of one value that together are all of it become one split."""
    (source,) = operation.operands
    axis = cast(int, operation.attributes["axis"])
    tiles = _tiles(step, source, axis)
    if tiles is None:
        start, stop = (cast(int, operation.attributes[key]) for key in ("start", "stop"))
        step.slice(step.name(source), axis, start, stop, operation.result)
        return
    if operation is tiles[0]:
        sizes = step.constant([int(tile.result.type.shape[axis]) for tile in tiles])
        results = [tile.result for tile in tiles]
        step.emit_all("Split", step.name(source), sizes, results=results, axis=axis)


def _tiles(step: Step, source: Value, axis: int) -> Sequence[Operation] | None:
    """The slices of ``source`` along ``axis``, if they cover it in the order in which they come."""
    users = step.graph.users[source]
    end = 0
    for user in users:
        attributes = user.attributes
        if user.operator != "slice" or attributes["axis"] != axis or attributes["start"] != end:
            return None
        end = cast(int, attributes["stop"])
    return users if len(users) > 1 and end == source.type.shape[axis] else None


def _repeat(step: Step, operation: Operation) -> None:
    (source,) = operation.operands
    axis, times = (cast(int, operation.attributes[key]) for key in ("axis", "times"))
    apart = step.unsqueeze(step.name(source), axis + 1)
    shape = [1] * (source.type.rank + 1)
    shape[axis + 1] = times
    expanded = step.emit("Expand", apart, step.constant(shape))
    result = operation.result.type
    sizes = [dim if isinstance(dim, int) else 0 for dim in result.shape]
    if any(isinstance(dim, str) for dim in result.shape[axis:]):
        raise CompileError(f"a repeat of {source.type} to {result} cannot be said in ONNX")
    step.reshape(expanded, sizes, operation.result)


def _transpose(step: Step, operation: Operation) -> None:
    axes = cast("tuple[int, ...]", operation.attributes["axes"])
    step.emit("Transpose", step.name(operation.operands[0]), result=operation.result, perm=axes)


def _concat(step: Step, operation: Operation) -> None:
    names = [step.name(operand) for operand in operation.operands]
    axis = cast(int, operation.attributes["axis"])
    step.emit("Concat", *names, result=operation.result, axis=axis)


def _stack(step: Step, operation: Operation) -> None:
    names = [step.unsqueeze(step.name(operand), 0) for operand in operation.operands]
    step.emit("Concat", *names, result=operation.result, axis=0)


def _gather_rows(step: Step, operation: Operation) -> None:
    table, numbers = map(step.name, operation.operands)
    step.emit("Gather", table, numbers, result=operation.result, axis=0)


def _permute_columns(step: Step, operation: Operation) -> None:
    x, order = map(step.name, operation.operands)
    step.emit("Gather", x, order, result=operation.result, axis=-1)


RULES: Mapping[str, Rule] = {
    "concat": _concat,
    "constant": _constant,
    "gather_rows": _gather_rows,
    "iota": _iota,
    "permute_columns": _permute_columns,
    "repeat": _repeat,
    "reshape": _reshape,
    "slice": _slice,
    "stack": _stack,
    "transpose": _transpose,
}
"""By operator."""
