"""Gated feed-forward layers by one matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..ir import Graph, Module, Operation, ScalarType, Value
from .base import Pass, Rewritten
from .fused_linear import FusedLinear, find_fusible
from .patterns import Wildcard, apply, match
from .rewriting import ModuleRewriter

__all__ = ["FuseGateUp"]

_ACTIVATIONS = ("silu", "gelu", "gelu_tanh")
_UP = Wildcard("up")
_GATED = {name: apply("mul", apply(name, Wildcard("gate")), _UP) for name in _ACTIVATIONS}


@dataclass(frozen=True)
class FuseGateUp(Pass):
    """``silu(linear(x, gate)) * linear(x, up)`` becomes ``silu_mul`` of one linear; so do other activations.

    So do gate and up that are slices of rows which hold nothing else, and those of experts.
    """

    name: ClassVar[str] = "fuse_gate_up"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized")

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        found: dict[Operation, tuple[str, FusedLinear | Value]] = {}
        for operation in graph.operations:
            if operation.operator == "mul" and (gated := _find_gate(operation, graph)) is not None:
                found[operation] = gated
        if not found:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)

        def fuse(operation: Operation, activation: str, source: FusedLinear | Value) -> None:
            rows = source if isinstance(source, Value) else source.emit(rewriter)
            rewriter.forward.emit(f"{activation}_mul", rows, replaces=operation.result)

        rewriter.forward.apply(
            {operation: partial(fuse, operation, *gated) for operation, gated in found.items()}
        )
        return Rewritten(rewriter.finish())


def _find_gate(operation: Operation, graph: Graph) -> tuple[str, FusedLinear | Value] | None:
    """The activation, and the rows that hold gate and up, or what makes them."""
    for activation, pattern in _GATED.items():
        gated = match(pattern, operation, graph)
        if gated is None or gated["gate"].type != gated["up"].type:
            continue
        sources = [graph.producers.get(gated[name]) for name in ("gate", "up")]
        if (rows := _halved(sources)) is not None:
            return activation, rows
        if (fusible := find_fusible(sources, graph)) is not None:
            return activation, fusible
    return None


def _halved(sources: Sequence[Operation | None]) -> Value | None:
    """The rows whose first and second half ``sources`` slice off, None where they do not."""
    first, second = sources
    if first is None or second is None or first.operator != "slice" or second.operator != "slice":
        return None
    (rows,) = first.operands
    width = rows.type.shape[-1]
    if (
        second.operands != (rows,)
        or not isinstance(width, int)
        or rows.type.element is not ScalarType.FLOAT32
    ):
        return None
    axis, half = rows.type.rank - 1, width // 2
    cuts = [
        (cut.attributes["axis"], cut.attributes["start"], cut.attributes["stop"]) for cut in (first, second)
    ]
    return rows if cuts == [(axis, 0, half), (axis, half, width)] else None
