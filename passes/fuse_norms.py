"""Root mean square norms, and the residual sums before them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..ir import Module, Operation, ScalarType, TensorType
from .base import Pass, Rewritten
from .patterns import Match, Wildcard, apply, match
from .rewriting import ModuleRewriter

__all__ = ["FuseNorms"]

_X = Wildcard("x")
_MEAN_SQUARE = apply("mean", apply("square", _X), name="mean")
_INVERSE = apply("rsqrt", apply("add", _MEAN_SQUARE, Wildcard("epsilon")))
_NORM = apply("mul", apply("mul", _X, _INVERSE), Wildcard("weight"))


@dataclass(frozen=True)
class FuseNorms(Pass):
    """``x * rsqrt(mean(square(x)) + epsilon) * weight`` becomes ``rms_norm``, after a sum ``add_rms_norm``.

    The sum is the residual stream: both terms have its shape. It stays a result of its own.
    """

    name: ClassVar[str] = "fuse_norms"
    requires: ClassVar[tuple[str, ...]] = ("plain", "fused")
    ensures: ClassVar[str | None] = "fused"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        return Rewritten(_fuse_sums(_fuse_norms(module)))


def _fuse_norms(module: Module) -> Module:
    graph = module.forward
    found = {
        operation: norm
        for operation in graph.operations
        if operation.operator == "mul" and (norm := match(_NORM, operation, graph)) and _is_rms_norm(norm)
    }
    if not found:
        return module
    rewriter = ModuleRewriter(module)

    def fuse(operation: Operation, norm: Match) -> None:
        operands = norm["x"], norm["weight"]
        epsilon = norm.number("epsilon")
        rewriter.forward.emit("rms_norm", *operands, replaces=operation.result, epsilon=epsilon)

    rewriter.forward.apply({operation: partial(fuse, operation, norm) for operation, norm in found.items()})
    return rewriter.finish()


def _is_rms_norm(norm: Match) -> bool:
    rows, weight = norm["x"].type, norm["weight"].type
    return (
        rows.element is ScalarType.FLOAT32
        and norm.attribute("mean", "axis") == rows.rank - 1
        and weight == TensorType(rows.shape[-1:], ScalarType.FLOAT32)
        and norm.is_number("epsilon")
    )


def _fuse_sums(module: Module) -> Module:
    graph = module.forward
    signature = set(graph.signature)
    found: dict[Operation, Operation] = {}
    for norm in graph.operations:
        if norm.operator != "rms_norm" or norm.operands[1] not in signature:
            continue  # a weight computed later than the sum could not be the sum's operand
        total = graph.producers.get(norm.operands[0])
        if total is not None and total.operator == "add" and _is_residual(total):
            found.setdefault(total, norm)
    if not found:
        return module
    rewriter = ModuleRewriter(module)

    def fuse(total: Operation, norm: Operation) -> None:
        rewriter.forward.emit_all(
            "add_rms_norm",
            (*total.operands, norm.operands[1]),
            norm.attributes,
            replaces=(total.result, norm.result),
        )

    rules = {total: partial(fuse, total, norm) for total, norm in found.items()}
    rewriter.forward.apply({**rules, **dict.fromkeys(found.values(), lambda: None)})
    return rewriter.finish()


def _is_residual(total: Operation) -> bool:
    return all(term.type == total.result.type for term in total.operands)
