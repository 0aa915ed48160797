"""Which weight is kept in which format: what schemes, topologies and searches decide."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

from ..ir import FORMATS, Dim, Graph, Module, Operation, QuantFormat, ScalarType, Value, find_format
from ..ir.errors import CompileError, IRError
from ..ir.quantization import FAMILIES

__all__ = [
    "SCHEMES",
    "Assignment",
    "QuantScheme",
    "WeightKind",
    "WeightUse",
    "assign_formats",
    "find_assignment",
    "find_weights",
    "layer_of",
    "tensors_of",
    "weight_of",
]

WeightKind: TypeAlias = Literal["linear", "embedding", "head"]
"""A weight of linears or experts, a look-up table, or the weight that makes the logits."""

_LINEARS = ("linear", "expert_linear", "head_linear")
_LAYER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


@dataclass(frozen=True, slots=True)
class WeightUse:
    """A weight where it is used.

    ``name`` is the parameter's, ``tensors`` are the checkpoint's that it is made of: one, mostly, and of the
    same name.
    """

    name: str
    kind: WeightKind
    tensors: tuple[str, ...]

    @property
    def layer(self) -> int | None:
        """The layer it belongs to: the first whole number in its name; None outside of layers."""
        return layer_of(self.tensors or (self.name,))


class Assignment(Protocol):
    """Says which format a weight shall have."""

    @property
    def name(self) -> str:
        """What to call it, for the manifest."""
        ...

    def format_for(self, weight: WeightUse) -> str | None:
        """The name of a format, None where the weight stays as it is; raises :class:`CompileError`."""
        ...

    def check(self, weights: Sequence[WeightUse]) -> None:
        """Raise :class:`CompileError` for what was said of none of a model's weights."""
        ...


@dataclass(frozen=True, slots=True)
class QuantScheme:
    """Which format, by name, is for what: a scheme is data.

    ``linear`` is for the weights of linears, experts and heads, ``embedding`` for look-up tables, and
    ``head`` for the linear that makes the logits. None leaves them as they are.
    """

    name: str
    linear: str | None
    embedding: str | None
    head: str | None

    def format_for(self, weight: WeightUse) -> str | None:
        """See :class:`Assignment`."""
        formats: Mapping[WeightKind, str | None] = {
            "linear": self.linear,
            "embedding": self.embedding,
            "head": self.head,
        }
        return formats[weight.kind]

    def check(self, weights: Sequence[WeightUse]) -> None:
        """A scheme fits every model."""


_WITHOUT_SUPER_BLOCKS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("q2_k", "q3_k", "iq4_xs"), "iq4_nl"),
        "q4_k": "q5_0",
        "q5_k": "q5_1",
        "q6_k": "q8_0",
    }
)
"""What stands for a format where rows are no whole super-blocks, as ``llama.cpp`` has it."""

_LEAST_BITS = 6
"""Bits of an element of tables and heads, where nobody says otherwise."""

SCHEMES: Mapping[str, QuantScheme] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            QuantScheme("int8", "int8_g32", "int8_g32", "int8_g32"),
            *(QuantScheme(f"int{bits}", f"int{bits}_g32_i5", "int8_row", "int8_row") for bits in range(2, 5)),
            *(QuantScheme(f"int{bits}", f"int{bits}_g32", "int8_g32", "int8_g32") for bits in range(5, 8)),
            QuantScheme("fp8", "fp8_e4m3_row_a8", "int8_row", "int8_row"),
        )
    }
)
"""Every scheme by name."""


def find_assignment(name: str) -> QuantScheme | None:
    """What a scheme's or a format's name says; None for ``none``.

    A format whose name says its numbers (``int4_g64``) is for weights of all kinds. Where it has a name of
    its own (``q4_k``), tables and the head, on which more depends, have at least six bits, as schemes have
    it.

    Raises :class:`CompileError` for any other name.
    """
    if name in SCHEMES:
        return SCHEMES[name]
    if name == "none":
        return None
    try:
        is_known = not find_format(name).name.startswith("dynamic_")
    except IRError:
        is_known = False
    if not is_known:
        weight_formats = [each for each in FORMATS if not each.startswith("dynamic_")]
        known = ", ".join(("none", *SCHEMES, *weight_formats))
        families = "; ".join(FAMILIES.values())
        raise CompileError(
            f"no quantization scheme or format '{name}'; there are {known}, and those like {families}"
        )
    careful = name
    if name in FORMATS and FORMATS[name].bits_per_element < _LEAST_BITS:
        careful = "q6_k" if FORMATS[name].block_size == 256 else "int8_g32"
    return QuantScheme(name, name, careful, careful)


def find_weights(module: Module) -> dict[Operation, WeightUse]:
    """The uses of weights that can be quantized: unquantized parameters of linears, experts and embeddings.

    A router's is none of them: its choices are worth more than its bytes.
    """
    graph = module.forward
    tensors = tensors_of(module)
    head = find_head(graph)
    found: dict[Operation, WeightUse] = {}
    for operation in graph.operations:
        if operation.operator not in (*_LINEARS, "embedding") or _is_router(operation, graph):
            continue
        weight = weight_of(operation)
        if weight not in tensors or not isinstance(weight.type.element, ScalarType):
            continue
        kind: WeightKind = "embedding" if operation.operator == "embedding" else "linear"
        use = WeightUse(weight.name, "head" if operation is head else kind, tensors[weight])
        found[operation] = use
    return found


def assign_formats(
    module: Module, assignment: Assignment
) -> tuple[dict[Operation, QuantFormat], tuple[str, ...]]:
    """The formats of those weights that ``assignment`` gives one, by their use, and notes of those left out.

    These are weights whose rows are no whole number of groups; of super-blocks, they have a format without
    these. Raises :class:`CompileError` where the assignment does not fit the model.
    """
    uses = find_weights(module)
    wanted: dict[Operation, QuantFormat] = {}
    notes: dict[str, None] = {}
    if module.stage == "fused":  # later, what was quantized is no longer among the weights
        assignment.check(tuple(uses.values()))
        if count := sum(isinstance(value.type.element, QuantFormat) for value in module.forward.parameters):
            notes[f"{count} weights come quantized, and stay in the formats that they have"] = None
    for operation, use in uses.items():
        name = assignment.format_for(use)
        if name is None:
            continue
        weight, quant_format = weight_of(operation), find_format(name)
        found = _fitting(quant_format, weight.type.shape[-1])
        if found is not None:
            wanted[operation] = found
        if found is not quant_format:
            stays = f"stays {weight.type}" if found is None else f"is {found.name} and not {name}"
            size = quant_format.block_size
            notes[f"{weight.name} {stays}: its rows are no whole groups of {size}"] = None
    return wanted, tuple(notes)


def _fitting(quant_format: QuantFormat, width: Dim) -> QuantFormat | None:
    """The format, or the one in its place with smaller groups, that rows of ``width`` are whole groups of."""
    if isinstance(width, int) and width % quant_format.block_size == 0:
        return quant_format
    smaller = _WITHOUT_SUPER_BLOCKS.get(quant_format.name)
    return None if smaller is None else _fitting(find_format(smaller), width)


def weight_of(operation: Operation) -> Value:
    """The weight of a linear, of experts, of heads, or of an embedding."""
    return operation.operands[0 if operation.operator == "embedding" else 1]


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


def _is_router(operation: Operation, graph: Graph) -> bool:
    """Whether an operation makes the logits that experts are chosen by."""
    return any(user.operator == "route" for user in graph.users.get(operation.results[0], ()))


def tensors_of(module: Module) -> dict[Value, tuple[str, ...]]:
    """The tensors of the checkpoint that each parameter of forward is made of."""
    graph = module.prepare
    found: dict[Value, tuple[str, ...]] = {value: (value.name,) for value in graph.inputs}
    for operation in graph.operations:
        names = dict.fromkeys(name for operand in operation.operands for name in found[operand])
        found.update(dict.fromkeys(operation.results, tuple(names)))
    prepared = zip(module.forward.parameters, graph.outputs, strict=True)
    return {parameter: found[value] for parameter, value in prepared}


def layer_of(tensors: Sequence[str]) -> int | None:
    """The layer that tensors belong to: the first whole number in the name; None outside of layers."""
    found = _LAYER.search(tensors[0]) if tensors else None
    return None if found is None else int(found[1])
