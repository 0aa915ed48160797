"""Biases of attention that are linear in the key's position (ALiBi: Press et al., 2022)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..ir import Graph, Operation, Value, evaluate

__all__ = ["find_slopes"]

_ROW_BY_ROW = frozenset({"add", "cast", "constant", "div", "mul", "neg", "reshape", "sub"})
"""Operators of which biases are made; what they give for a position depends on no other position."""

_POSITIONS = np.array([0, 1, 2, 3, 7, 64, 257, 1001, 4095, 16384], np.int32)
_LARGEST_ERROR = 1e-6


def find_slopes(graph: Graph, bias: Value) -> npt.NDArray[np.float32] | None:
    """By how much ``bias`` ``[tokens, heads, 1]`` grows from a position to the next, float32 ``[heads]``.

    None where it is not computed from positions alone, or not linear in them. What is added for all
    positions alike is nothing to softmax.
    """
    heads = bias.type.shape[1]
    if bias.type.shape != ("tokens", heads, 1) or (made := _made_of(graph, bias)) is None:
        return None
    inputs = tuple(value for value in graph.inputs if value.name == "positions")
    alone = Graph(inputs, (), (), made, (bias,))
    (found,) = evaluate(alone, {"positions": _POSITIONS})
    by_position = np.asarray(found, np.float64)[:, :, 0]
    risen = by_position - by_position[0]
    slopes: npt.NDArray[np.float32] = (risen[-1] / _POSITIONS[-1]).astype(np.float32)
    expected = slopes.astype(np.float64) * _POSITIONS[:, None]
    most = np.abs(by_position).max(axis=0) * _LARGEST_ERROR
    return slopes if np.isfinite(slopes).all() and (np.abs(risen - expected) <= most).all() else None


def _made_of(graph: Graph, bias: Value) -> tuple[Operation, ...] | None:
    """The operations that ``bias`` is computed by, in order; None where there are others than row by row."""
    needed, made = {bias}, list[Operation]()
    for operation in reversed(graph.operations):
        if not needed.isdisjoint(operation.results):
            if operation.operator not in _ROW_BY_ROW:
                return None
            made.append(operation)
            needed.update(operation.operands)
    inputs = {value for value in graph.inputs if value.name == "positions"}
    if needed & {*graph.inputs, *graph.parameters, *graph.states} != inputs:
        return None
    return tuple(reversed(made))
