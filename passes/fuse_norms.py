"""Root mean square and layer norms, and the residual sums before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from ..ir import Dim, Graph, Module, Operation, ScalarType, TensorType, Value
from .base import Pass, Rewritten
from .patterns import Match, Pattern, Wildcard, apply, match
from .rewriting import ModuleRewriter

__all__ = ["FuseNorms"]


def _normed(x: Pattern) -> Pattern:
    """``x`` over the root of its mean square."""
    mean_square = apply("mean", apply("square", x), name="mean square")
    return apply("mul", x, apply("rsqrt", apply("add", mean_square, Wildcard("epsilon"))))


def _weighted(normed: Pattern) -> Pattern:
    return apply("mul", normed, Wildcard("weight"))


_X = Wildcard("x")
_RMS_NORMED = _normed(_X)
_LAYER_NORMED = _normed(apply("sub", _X, apply("mean", _X, name="mean"), name="distance"))
_NORMS: Mapping[str, tuple[tuple[str, Pattern], ...]] = {
    "mul": (
        ("layer_norm", _weighted(_LAYER_NORMED)),
        ("rms_norm", _weighted(_RMS_NORMED)),
        ("layer_norm", _LAYER_NORMED),
        ("rms_norm", _RMS_NORMED),
    ),
    "add": (("layer_norm", apply("add", _weighted(_LAYER_NORMED), Wildcard("bias"))),),
}
"""Norms by the operator that is their last."""


@dataclass(frozen=True)
class FuseNorms(Pass):
    """``x * rsqrt(mean(square(x)) + epsilon) * weight`` becomes ``rms_norm``, after a sum ``add_rms_norm``.

    Where ``x`` is the distance from a mean it becomes ``layer_norm``, and takes in a bias that is added. A
    norm without a weight gets one of ones. The sum is the residual stream: both terms have its shape. It
    stays a result of its own.
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
        if operation.operator in _NORMS and (norm := _find_norm(operation, graph)) is not None
    }
    if not found:
        return module
    rewriter = ModuleRewriter(module)
    ones: dict[Dim, Value] = {}

    def weight_of(norm: Match) -> Value:
        if norm.has("weight"):
            return norm["weight"]
        width = norm["x"].type.shape[-1]
        if width not in ones:
            array = np.ones(int(width), np.float32)
            ones[width] = rewriter.add_parameter(rewriter.compute("constant", name="ones", value=array))
        return ones[width]

    def fuse(operation: Operation, operator: str, norm: Match) -> None:
        operands = [norm["x"], weight_of(norm), *([norm["bias"]] if norm.has("bias") else [])]
        epsilon = norm.number("epsilon")
        rewriter.forward.emit(operator, *operands, replaces=operation.result, epsilon=epsilon)

    rewriter.forward.apply({operation: partial(fuse, operation, *norm) for operation, norm in found.items()})
    return rewriter.finish()


def _find_norm(operation: Operation, graph: Graph) -> tuple[str, Match] | None:
    """The operator that ``operation`` is the end of, and its operands."""
    for operator, pattern in _NORMS[operation.operator]:
        norm = match(pattern, operation, graph)
        if norm is not None and _is_norm(norm):
            return operator, norm
    return None


def _is_norm(norm: Match) -> bool:
    rows = norm["x"].type
    size = TensorType(rows.shape[-1:], ScalarType.FLOAT32)
    return (
        rows.element is ScalarType.FLOAT32
        and all(norm.attribute(n, "axis") == rows.rank - 1 for n in ("mean", "mean square") if norm.has(n))
        and all(norm[name].type == size for name in ("weight", "bias") if norm.has(name))
        and norm.is_number("epsilon")
    )


def _fuse_sums(module: Module) -> Module:
    graph = module.forward
    signature = set(graph.signature)
    found: dict[Operation, Operation] = {}
    for norm in graph.operations:
        if norm.operator not in ("rms_norm", "layer_norm") or not signature.issuperset(norm.operands[1:]):
            continue  # a weight computed later than the sum could not be the sum's operand
        total = graph.producers.get(norm.operands[0])
        if total is not None and total.operator == "add" and _is_residual(total):
            found.setdefault(total, norm)
    if not found:
        return module
    rewriter = ModuleRewriter(module)

    def fuse(total: Operation, norm: Operation) -> None:
        rewriter.forward.emit_all(
            f"add_{norm.operator}",
            (*total.operands, *norm.operands[1:]),
            norm.attributes,
            replaces=(total.result, norm.result),
        )

    rules = {total: partial(fuse, total, norm) for total, norm in found.items()}
    rewriter.forward.apply({**rules, **dict.fromkeys(found.values(), lambda: None)})
    return rewriter.finish()


def _is_residual(total: Operation) -> bool:
    return all(term.type == total.result.type for term in total.operands)
