"""Rotary tables computed once for all positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..ir import Attribute, Graph, Module, Operation, Value
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["TabulateRope"]

_ELEMENTWISE = frozenset(
    {"neg", "exp", "cos", "sin", "rsqrt", "square", "cast"}
    | {"add", "sub", "mul", "div", "pow", "maximum", "minimum"}
)
_REPLAYED = _ELEMENTWISE | {"reshape", "concat", "slice", "repeat", "gather_rows"}


@dataclass(frozen=True)
class TabulateRope(Pass):
    """Cosines and sines that depend on nothing but a token's position become rows of a table.

    The table, for positions 0 to ``max_seq_len - 1``, is computed in prepare; forward gathers from it. So
    every scaling of the rotary frequencies is the same kernel.
    """

    max_seq_len: int

    name: ClassVar[str] = "tabulate_rope"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized")

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        positions = next((value for value in graph.inputs if value.name == "positions"), None)
        if positions is None:
            return Rewritten(module)
        by_position = _functions_of(positions, module)
        tables = {
            operand: name
            for operation in graph.operations
            if operation.operator == "rope"
            for operand, name in zip(operation.operands[1:], ("rope.cosines", "rope.sines"), strict=True)
            if operand in by_position and graph.producers[operand].operator != "gather_rows"
        }
        if not tables:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)
        replay = _Replay(rewriter, graph, positions, self.max_seq_len)
        rules = {
            graph.producers[value]: lambda value=value, name=name: replay.tabulate(value, name)
            for value, name in tables.items()
        }
        rewriter.forward.apply(rules)
        return Rewritten(rewriter.finish())


def _functions_of(positions: Value, module: Module) -> set[Value]:
    """Values ``[tokens, ...]`` whose row for a token follows from its position, constants and parameters."""
    graph = module.forward
    static = set(graph.parameters)
    found = {positions}
    (tokens,) = positions.type.shape
    for operation in graph.operations:
        operands = operation.operands
        if operation.operator == "constant":
            static.add(operation.result)
        elif operation.operator not in _REPLAYED or not all(x in found or x in static for x in operands):
            continue
        elif all(operand in static for operand in operands):
            static.add(operation.result)
        elif _goes_by_rows(operation, found):
            shape = operation.result.type.shape
            if shape.count(tokens) == 1 and shape[0] == tokens:
                found.add(operation.result)
    found.discard(positions)
    return found


def _goes_by_rows(operation: Operation, found: set[Value]) -> bool:
    """Whether each row of the result depends on the same row of the operands alone."""
    if operation.operator in _ELEMENTWISE:
        rank = operation.result.type.rank
        return all(operand.type.rank == rank for operand in operation.operands if operand in found)
    if operation.operator == "reshape":
        return True
    if operation.operator == "gather_rows":
        return operation.operands[0] not in found
    return operation.attributes["axis"] != 0 and all(operand in found for operand in operation.operands)


class _Replay:
    """Emits in prepare, over all positions, what forward computes over those of its tokens."""

    def __init__(self, rewriter: ModuleRewriter, graph: Graph, positions: Value, max_seq_len: int) -> None:
        self._rewriter = rewriter
        self._producers: Mapping[Value, Operation] = graph.producers
        self._positions = positions
        self._max_seq_len = max_seq_len
        self._prepared: dict[Value, Value] = {}

    def tabulate(self, value: Value, name: str) -> None:
        """Let forward gather ``value`` from a table called ``name``."""
        table = self._rewriter.add_parameter(self._emit(value, name))
        self._rewriter.forward.emit("gather_rows", table, self._positions, replaces=value)

    def _emit(self, value: Value, name: str) -> Value:
        if value not in self._prepared:
            self._prepared[value] = self._make(value, name)
        return self._prepared[value]

    def _make(self, value: Value, name: str) -> Value:
        if value is self._positions:
            return self._rewriter.compute("iota", name="all_positions", length=self._max_seq_len)
        operation = self._producers.get(value)
        if operation is None:
            return self._rewriter.prepared(value)
        operands = [self._emit(operand, operand.name) for operand in operation.operands]
        attributes = {key: self._sized(attribute) for key, attribute in operation.attributes.items()}
        return self._rewriter.compute(operation.operator, *operands, name=name, **attributes)

    def _sized(self, attribute: Attribute) -> Attribute:
        (tokens,) = self._positions.type.shape
        if isinstance(attribute, tuple):
            return tuple(self._max_seq_len if dim == tokens else dim for dim in attribute)
        return attribute
