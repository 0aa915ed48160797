"""Compute each expression once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir import Attribute, Graph, Module, Operation, Value
from .base import Pass, Rewritten
from .rewriting import GraphRewriter, ModuleRewriter

__all__ = ["EliminateCommonSubexpressions"]


@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Let the first of several equal operations serve for all, and one of several equal parameters."""

    name: ClassVar[str] = "eliminate_common_subexpressions"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        first = _first_equals(module.prepare, {})
        same_parameter = _same_parameters(module, first)
        repeats = _first_equals(module.forward, same_parameter)
        if not first and not repeats and not same_parameter:
            return Rewritten(module)
        rewriter = ModuleRewriter(_with_prepare(module, first))
        for old, new in same_parameter.items():
            rewriter.forward.replace(old, new)
        _drop(rewriter.forward, module.forward, repeats)
        return Rewritten(rewriter.finish())


def _first_equals(graph: Graph, known: dict[Value, Value]) -> dict[Value, Value]:
    """For each result that repeats an earlier one, the earlier; ``known`` are equalities to begin with."""
    first: dict[Hashable, Operation] = {}
    equal: dict[Value, Value] = {}
    for operation in graph.operations:
        operands = tuple(equal.get(operand, known.get(operand, operand)) for operand in operation.operands)
        attributes = tuple(sorted((key, _key(value)) for key, value in operation.attributes.items()))
        earlier = first.setdefault((operation.operator, operands, attributes), operation)
        if earlier is not operation:
            equal.update(zip(operation.results, earlier.results, strict=True))
    return equal


def _key(attribute: Attribute) -> tuple[str, str, bytes]:
    """Equal exactly for attributes that mean the same, bit by bit."""
    if isinstance(attribute, np.ndarray):
        return attribute.dtype.name, str(attribute.shape), attribute.tobytes()
    return type(attribute).__name__, repr(attribute), b""


def _same_parameters(module: Module, equal: dict[Value, Value]) -> dict[Value, Value]:
    first: dict[Value, Value] = {}
    same: dict[Value, Value] = {}
    for parameter, prepared in zip(module.forward.parameters, module.prepare.outputs, strict=True):
        earlier = first.setdefault(equal.get(prepared, prepared), parameter)
        if earlier is not parameter:
            same[parameter] = earlier
    return same


def _drop(rewriter: GraphRewriter, graph: Graph, equal: dict[Value, Value]) -> None:
    for old, new in equal.items():
        rewriter.replace(old, new)
    repeated = [operation for operation in graph.operations if operation.results[0] in equal]
    rewriter.apply(dict.fromkeys(repeated, lambda: None))


def _with_prepare(module: Module, equal: dict[Value, Value]) -> Module:
    if not equal:
        return module
    rewriter = GraphRewriter(module.prepare)
    _drop(rewriter, module.prepare, equal)
    # An output that repeats another keeps its place until its parameter, by then unused, is pruned.
    return Module(module.name, module.stage, rewriter.finish(), module.forward)
