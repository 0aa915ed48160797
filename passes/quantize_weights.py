"""Weights in quantization formats, and rows rounded on their way to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from ..ir import Graph, Module, Operation, QuantFormat, ScalarType, Value, find_format
from ..ir.errors import CompileError
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["SCHEMES", "QuantScheme", "QuantizeWeights", "find_scheme"]


@dataclass(frozen=True, slots=True)
class QuantScheme:
    """Which format, by name, is for what: a scheme is data.

    ``linear`` is for the weights of linears, experts and heads, ``embedding`` for look-up tables, ``head``
    for the linear that makes the logits, and ``activations`` for the rows that meet any of these weights.
    """

    name: str
    linear: str
    embedding: str
    head: str
    activations: str


SCHEMES: Mapping[str, QuantScheme] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            QuantScheme("int8", "int8_g32", "int8_g32", "int8_g32", "dynamic_int8_g32"),
            QuantScheme("int4", "int4_g32", "int8_g32", "int8_g32", "dynamic_int8_g32"),
        )
    }
)
"""Every scheme by name."""


def find_scheme(name: str) -> QuantScheme | None:
    """The scheme called ``name``, None for ``none``; raises :class:`CompileError` if there is none."""
    if name != "none" and name not in SCHEMES:
        raise CompileError(f"no quantization scheme '{name}'; schemes: none, {', '.join(SCHEMES)}")
    return SCHEMES.get(name)


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Quantize the weights of linears and embeddings by ``scheme``.

    A weight that an embedding and the head share stays one parameter where their formats are the same. A
    weight whose rows are no whole number of groups stays as it is; a note says so. So does that of a router,
    whose choices are worth more than its bytes.
    """

    scheme: QuantScheme

    name: ClassVar[str] = "quantize_weights"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized")
    ensures: ClassVar[str | None] = "quantized"

    @property
    def preserves_values(self) -> bool:
        """It rounds."""
        return False

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        wanted, notes = self._formats(graph)
        if not wanted:
            return Rewritten(module, notes)
        quantizing = _Quantizing(module, find_format(self.scheme.activations))
        for operation in graph.operations:
            quantizing.visit(operation, wanted.get(operation))
        return Rewritten(quantizing.finish(), notes)

    def _formats(self, graph: Graph) -> tuple[dict[Operation, QuantFormat], tuple[str, ...]]:
        parameters = set(graph.parameters)
        head = find_head(graph)
        wanted: dict[Operation, QuantFormat] = {}
        notes: dict[str, None] = {}
        scheme = self.scheme
        formats = {
            "linear": scheme.linear,
            "expert_linear": scheme.linear,
            "head_linear": scheme.linear,
            "embedding": scheme.embedding,
            "head": scheme.head,
        }
        for operation in graph.operations:
            if operation.operator not in formats or _is_router(operation, graph):
                continue
            weight = weight_of(operation)
            if weight not in parameters or not isinstance(weight.type.element, ScalarType):
                continue
            kind = "head" if operation is head else operation.operator
            quant_format = find_format(formats[kind])
            size, width = quant_format.group_size, weight.type.shape[-1]
            if isinstance(width, int) and width % size == 0:
                wanted[operation] = quant_format
            else:
                notes[f"{weight.name} stays {weight.type}: its rows are no whole groups of {size}"] = None
        return wanted, tuple(notes)


def weight_of(operation: Operation) -> Value:
    """The weight of a linear, of experts, of heads, or of an embedding."""
    return operation.operands[0 if operation.operator == "embedding" else 1]


def _is_router(operation: Operation, graph: Graph) -> bool:
    """Whether an operation makes the logits that experts are chosen by."""
    return any(user.operator == "route" for user in graph.users.get(operation.results[0], ()))


def find_head(graph: Graph) -> Operation | None:
    """The linear that makes the logits, forward's first output: the last one before it."""
    value = graph.outputs[0] if graph.outputs else None
    while value is not None:
        producer = graph.producers.get(value)
        if producer is None or producer.operator == "linear":
            return producer
        computed = [operand for operand in producer.operands if operand.type.rank == value.type.rank]
        value = computed[0] if len(computed) == 1 else None
    return None


class _Quantizing:
    def __init__(self, module: Module, activations: QuantFormat) -> None:
        self._rewriter = ModuleRewriter(module)
        self._activations = activations
        self._weights: dict[tuple[Value, QuantFormat], Value] = {}
        self._rows: dict[Value, Value] = {}

    def visit(self, operation: Operation, quant_format: QuantFormat | None) -> None:
        """Copy ``operation``, with its weight in ``quant_format`` if there is one."""
        forward = self._rewriter.forward
        if quant_format is None:
            forward.copy(operation)
            return
        weight = self._quantized(weight_of(operation), quant_format)
        if operation.operator == "embedding":
            forward.emit("embedding", weight, operation.operands[1], replaces=operation.result)
            return
        rows = operation.operands[0]
        if rows not in self._rows:
            self._rows[rows] = forward.emit("quantize", rows, format=self._activations.name)
        operands = self._rows[rows], weight, *operation.operands[2:]
        forward.emit(operation.operator, *operands, replaces=operation.result)

    def _quantized(self, weight: Value, quant_format: QuantFormat) -> Value:
        key = weight, quant_format
        if key not in self._weights:
            name = f"{weight.name}.{quant_format.name}"
            prepared = self._rewriter.prepared(weight)
            made = self._rewriter.compute("quantize", prepared, name=name, format=quant_format.name)
            self._weights[key] = self._rewriter.add_parameter(made)
        return self._weights[key]

    def finish(self) -> Module:
        """The rewritten module."""
        return self._rewriter.finish()
