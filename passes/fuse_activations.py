"""Activations that are written out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ..ir import Graph, Module, Operation, ScalarType, Value, find_operator
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["FuseActivations"]

_ACTIVATIONS = ("silu", "gelu", "gelu_tanh")
_STEPS = frozenset({"neg", "exp", "square", "tanh", "sigmoid", "pow", "add", "sub", "mul", "div"})
_LAST = frozenset({"mul", "div"})
_MOST_STEPS = 16
_PROBES = np.linspace(-7, 7, 57, dtype=np.float32)
"""Where an expression is compared; activations are smooth, so what agrees here is the same function."""
_TOLERANCE = 3e-6


@dataclass(frozen=True)
class FuseActivations(Pass):
    """Arithmetic on one value and numbers that comes to an activation becomes its operator.

    ``0.5 * x * (1 + tanh(0.7978846 * (x + 0.044715 * x ** 3)))`` is ``gelu_tanh`` in whatever order its
    factors stand: it is computed at some points and compared.
    """

    name: ClassVar[str] = "fuse_activations"
    requires: ClassVar[tuple[str, ...]] = ("plain", "fused")
    ensures: ClassVar[str | None] = "fused"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        known = {
            name: np.asarray(find_operator(name).evaluate([_PROBES], {}, {})[0]) for name in _ACTIVATIONS
        }
        found: dict[Operation, tuple[str, Value]] = {}
        for operation in graph.operations:
            if operation.operator in _LAST and (activation := _find(operation, graph, known)) is not None:
                found[operation] = activation
        if not found:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)

        def fuse(operation: Operation, name: str, x: Value) -> None:
            rewriter.forward.emit(name, x, replaces=operation.result)

        rewriter.forward.apply(
            {operation: partial(fuse, operation, *activation) for operation, activation in found.items()}
        )
        return Rewritten(rewriter.finish())


def _find(
    operation: Operation, graph: Graph, known: Mapping[str, npt.NDArray[np.generic]]
) -> tuple[str, Value] | None:
    """Which activation ``operation`` is the end of, and of what value."""
    if operation.result.type.element is not ScalarType.FLOAT32:
        return None
    for x in _sources(operation, graph):
        found = _evaluate(operation.result, x, graph, {x: _PROBES})
        if found is None:
            continue
        for name, expected in known.items():
            if np.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
                return name, x
    return None


def _sources(operation: Operation, graph: Graph) -> list[Value]:
    """Values of the same type that several operands lead back to, through few steps, the nearest first."""
    counts: dict[Value, int] = {}
    waiting, steps = [operation], 0
    while waiting and steps < _MOST_STEPS:
        steps += 1
        for operand in waiting.pop(0).operands:
            if operand.type != operation.result.type:
                continue
            counts[operand] = counts.get(operand, 0) + 1
            producer = graph.producers.get(operand)
            if counts[operand] == 1 and producer is not None and producer.operator in _STEPS:
                waiting.append(producer)
    return [value for value, count in counts.items() if count > 1]


def _evaluate(
    value: Value, x: Value, graph: Graph, made: dict[Value, npt.NDArray[np.generic]]
) -> npt.NDArray[np.generic] | None:
    """``value`` where ``x`` is what ``made`` says; None where it is of anything else but numbers."""
    if value in made:
        return made[value]
    producer = graph.producers.get(value)
    if producer is None:
        return None
    if producer.operator == "constant":
        array = np.asarray(producer.attributes["value"])
        return array.reshape(1) if array.size == 1 else None
    if producer.operator not in _STEPS or len(made) > _MOST_STEPS:
        return None
    operands = [_evaluate(operand, x, graph, made) for operand in producer.operands]
    if any(operand is None for operand in operands):
        return None
    arrays = [operand for operand in operands if operand is not None]
    (result,) = find_operator(producer.operator).evaluate(arrays, producer.attributes, {})
    made[value] = np.asarray(result)
    return made[value]
