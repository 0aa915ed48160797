"""Gated feed-forward layers by one matrix product."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..ir import Module, Operation
from .base import Pass, Rewritten
from .fused_linear import FusedLinear, find_fusible
from .patterns import Wildcard, apply, match
from .rewriting import ModuleRewriter

__all__ = ["FuseGateUp"]

_GATED = apply("mul", apply("silu", Wildcard("gate")), Wildcard("up"))


@dataclass(frozen=True)
class FuseGateUp(Pass):
    """``silu(linear(x, gate)) * linear(x, up)`` becomes ``silu_mul`` of one linear."""

    name: ClassVar[str] = "fuse_gate_up"
    requires: ClassVar[tuple[str, ...]] = ("plain", "fused")
    ensures: ClassVar[str | None] = "fused"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        found: dict[Operation, FusedLinear] = {}
        for operation in graph.operations:
            gated = match(_GATED, operation, graph) if operation.operator == "mul" else None
            if gated is None or gated["gate"].type != gated["up"].type:
                continue
            linears = [graph.producers.get(gated[name]) for name in ("gate", "up")]
            if any(linear is None or linear.operator != "linear" for linear in linears):
                continue
            fusible = find_fusible(linears, graph)
            if fusible is not None:
                found[operation] = fusible
        if not found:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)

        def fuse(operation: Operation, fusible: FusedLinear) -> None:
            rewriter.forward.emit("silu_mul", fusible.emit(rewriter), replaces=operation.result)

        rules = {operation: partial(fuse, operation, fusible) for operation, fusible in found.items()}
        rewriter.forward.apply(rules)
        return Rewritten(rewriter.finish())
