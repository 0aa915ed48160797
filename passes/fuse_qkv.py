"""Queries, keys and values by one matrix product."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..ir import Graph, Module, Operation, Value
from .base import Pass, Rewritten
from .fused_linear import FusedLinear, find_fusible_groups
from .rewriting import ModuleRewriter

__all__ = ["FuseQKV"]

_BETWEEN = frozenset({"rope", "reshape", "rms_norm", "layer_norm"})


@dataclass(frozen=True)
class FuseQKV(Pass):
    """The projections of one input that lead to one attention become one ``linear``, and slices of its rows.

    Those whose weights are in different formats stay apart. Where each is split into heads of one width, the
    rows are split once and the slices take whole heads.
    """

    name: ClassVar[str] = "fuse_qkv"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized")

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        found: list[FusedLinear] = []
        taken: set[Operation] = set()
        for operation in graph.operations:
            if operation.operator in ("attention", "bidirectional_attention"):
                sources = [_projection(operand, graph) for operand in operation.operands]
                for fusible in find_fusible_groups(sources, graph):
                    if taken.isdisjoint(fusible.linears):
                        found.append(fusible)
                        taken.update(fusible.linears)
        if not found:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)
        rules = {}
        for fusible in found:
            splits = _head_splits(fusible, graph)
            rules.update(dict.fromkeys((*fusible.linears, *splits), lambda: None))
            rules[min(fusible.linears, key=graph.operations.index)] = partial(
                _fuse, rewriter, fusible, splits
            )
        rewriter.forward.apply(rules)
        return Rewritten(rewriter.finish())


def _projection(value: Value, graph: Graph) -> Operation | None:
    """The linear that ``value``, an operand of an attention, comes from."""
    producer = graph.producers.get(value)
    while producer is not None and producer.operator in _BETWEEN:
        producer = graph.producers.get(producer.operands[0])
    return producer if producer is not None and producer.operator == "linear" else None


def _head_splits(fusible: FusedLinear, graph: Graph) -> tuple[Operation, ...]:
    """The reshapes, one after each linear, that split rows into heads of one width; none if it is not so."""
    splits = []
    for linear in fusible.linears:
        users = graph.users.get(linear.result, ())
        if len(users) != 1 or users[0].operator != "reshape" or linear.result in graph.outputs:
            return ()
        splits.append(users[0])
    shapes = [split.result.type.shape for split in splits]
    rows = fusible.linears[0].result.type.shape[0]
    alike = all(len(shape) == 3 and shape[0] == rows and shape[2] == shapes[0][2] for shape in shapes)
    return tuple(splits) if alike else ()


def _fuse(rewriter: ModuleRewriter, fusible: FusedLinear, splits: tuple[Operation, ...]) -> None:
    rows = fusible.emit(rewriter)
    parts = splits or fusible.linears
    sizes = [int(part.result.type.shape[1]) for part in parts]
    if splits:
        lead, _, width = splits[0].result.type.shape
        rows = rewriter.forward.emit("reshape", rows, shape=(lead, sum(sizes), width))
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        rewriter.forward.emit("slice", rows, replaces=part.result, axis=1, start=start, stop=start + size)
        start += size
