"""Arithmetic that changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from ..ir import Graph, Module, Operation, ScalarType, Value
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["DropNeutralTerms"]

_NEUTRAL: Mapping[str, tuple[float, bool]] = {
    "add": (0.0, True),
    "sub": (0.0, False),
    "mul": (1.0, True),
    "div": (1.0, False),
}
"""By operator: the number that changes nothing as second operand, and whether it does not as first."""


@dataclass(frozen=True)
class DropNeutralTerms(Pass):
    """Sums with zeros and products with ones become their other operand.

    Zeros are also what a traced model spreads a vector over the tokens with: a vector added to them is left
    to broadcast where whoever uses the sum has the full shape of itself.
    """

    name: ClassVar[str] = "drop_neutral_terms"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        zeros = _zeros(graph)
        found: dict[Operation, Value] = {}
        dropped: set[Value] = set()
        for operation in graph.operations:
            kept = _kept(operation, graph, zeros, dropped)
            if kept is not None:
                found[operation] = kept
                dropped.add(operation.result)
        if not found:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)

        def drop(operation: Operation, kept: Value) -> None:
            rewriter.forward.replace(operation.result, rewriter.forward.now(kept))

        rewriter.forward.apply(
            {operation: partial(drop, operation, kept) for operation, kept in found.items()}
        )
        return Rewritten(rewriter.finish())


def _zeros(graph: Graph) -> set[Value]:
    """Values ``[tokens, ...]`` that are zeros: integers as floats times zero, which are finite."""
    integers: set[Value] = set()
    zeros: set[Value] = set()
    for operation in graph.operations:
        first = operation.operands[0] if operation.operands else None
        match operation.operator:
            case "cast" if first is not None and first.type.element is ScalarType.INT32:
                integers.add(operation.result)
            case "mul" if any(x in integers for x in operation.operands):
                if any(_number(x, graph) == 0 for x in operation.operands):
                    zeros.add(operation.result)
            case "reshape" if first in zeros:
                zeros.add(operation.result)
            case "reshape" if first in integers:
                integers.add(operation.result)
    return zeros


def _number(value: Value, graph: Graph) -> float | None:
    producer = graph.producers.get(value)
    if producer is None or producer.operator != "constant":
        return None
    array = np.asarray(producer.attributes["value"])
    return float(array.reshape(())) if array.size == 1 else None


def _kept(operation: Operation, graph: Graph, zeros: set[Value], dropped: set[Value]) -> Value | None:
    """The operand that ``operation`` is, or may be in all its uses; None where both count."""
    if operation.operator not in _NEUTRAL:
        return None
    neutral, commutes = _NEUTRAL[operation.operator]
    pairs = [operation.operands, operation.operands[::-1]] if commutes else [operation.operands]
    for kept, other in pairs:
        if _number(other, graph) != neutral and not (neutral == 0 and other in zeros):
            continue
        if kept.type == operation.result.type or _broadcasts(operation, kept, graph, dropped):
            return kept
    return None


def _broadcasts(operation: Operation, kept: Value, graph: Graph, dropped: set[Value]) -> bool:
    """Whether each user has an operand that keeps the result's shape, to which ``kept`` broadcasts."""
    users = graph.users.get(operation.result, ())
    return (
        bool(users)
        and operation.result not in graph.outputs
        and kept.type.rank == operation.result.type.rank
        and all(
            user.operator in _NEUTRAL
            and user.result.type == operation.result.type
            and any(
                other.type == operation.result.type and other not in (operation.result, *dropped)
                for other in user.operands
            )
            for user in users
        )
    )
