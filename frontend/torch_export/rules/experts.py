"""Mixtures of experts: routers, of which each model writes its own, and the experts' products.

A router scores experts, perhaps keeps some groups of them, chooses the best with ``topk``, and takes their
scores as weights. All this is one operator of ours, ``route``. What leads to the choice is not emitted until
it is known whether there is one: meanwhile it is one of the terms imported here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch

from ....ir.errors import CompileError
from ....ir.graph import Value
from ..converter import Converter, Rule
from ..terms import BestLogits, Groups, Kept, Positional, Term
from . import choices, elementwise, linear, reduction

__all__ = ["RULES"]


def _topk(converter: Converter, node: torch.fx.Node) -> Term:
    source = cast(torch.fx.Node, node.args[0])
    count = cast(int, node.args[1] if len(node.args) > 1 else node.kwargs["k"])
    term: Any = converter.term(source)
    layout = converter.layout(source)
    if isinstance(term, Groups):
        return (None, replace(term, kept=count))
    if isinstance(term, Value) and layout.rank == 3 and count <= 2:  # experts in groups
        scores = _before_reshape(converter, term)
        return (Groups(scores, int(layout.sizes[1]), count), None)
    groups = term.groups if isinstance(term, Kept) else None
    ranked = groups.scores if groups is not None else converter.value(source)
    routed = _route(converter, ranked, count, groups)
    if routed is None:
        experts, _ = _emit_route(converter, [ranked], count, "softmax_of_chosen", None)
        return (BestLogits(ranked, count, experts), experts)
    return routed


def _before_reshape(converter: Converter, value: Value) -> Value:
    made = converter.emit.made.get(value)
    return made[1][0] if made is not None and made[0] == "reshape" else value


def _route(
    converter: Converter, ranked: Value, count: int, groups: Groups | None
) -> tuple[Value, Value] | None:
    """Weights and experts, chosen by scores of a kind that ``route`` knows; None where they are logits."""
    made = converter.emit.made.get(ranked)
    bias: list[Value] = []
    scores = ranked
    if made is not None and made[0] == "add":
        for term, other in (made[1], made[1][::-1]):
            if _kind(converter, term) and other.type.shape == ranked.type.shape[1:]:
                scores, bias = term, [other]
    kind = _kind(converter, scores)
    if kind is None:
        if groups is not None:
            raise CompileError("a router that groups logits is not supported")
        return None
    name, logits = kind
    experts, weights = _emit_route(converter, [logits, *bias], count, name, groups)
    converter.chosen[scores, experts] = weights
    return weights, experts


def _kind(converter: Converter, scores: Value) -> tuple[str, Value] | None:
    """Of what kind scores are, and the logits they are of."""
    made = converter.emit.made.get(scores)
    if made is None or made[0] not in ("softmax", "sigmoid"):
        return None
    return made[0], made[1][0]


def _emit_route(
    converter: Converter, operands: list[Value], count: int, scores: str, groups: Groups | None
) -> tuple[Value, Value]:
    experts, weights = converter.emit.all(
        "route",
        *operands,
        experts_per_token=count,
        scores=scores,
        groups=groups.groups if groups is not None else 1,
        kept_groups=groups.kept if groups is not None else 1,
        group_terms=groups.terms if groups is not None else 1,
        normalize=False,
        scale=1.0,
        jitter=0.0,
    )
    return experts, weights


def _divide(converter: Converter, node: torch.fx.Node) -> Term:
    """Weights by their sum are weights that ``route`` normalizes."""
    weights, total = (converter.term(argument) for argument in node.args[:2])
    if isinstance(weights, Value) and isinstance(total, Value) and _is_sum_of(converter, weights, total):
        return _again(converter, weights, normalize=True)
    return elementwise.RULES["aten.div"](converter, node)


def _multiply(converter: Converter, node: torch.fx.Node) -> Term:
    """Weights by a number are weights that ``route`` scales."""
    weights, factor = (converter.term(argument) for argument in node.args[:2])
    if isinstance(weights, Value) and isinstance(factor, int | float) and _is_routed(converter, weights):
        scale = cast(float, converter.emit.made[weights][2]["scale"])
        return _again(converter, weights, scale=scale * float(factor))
    return elementwise.RULES["aten.mul"](converter, node)


def _is_routed(converter: Converter, value: Value) -> bool:
    made = converter.emit.made.get(value)
    return made is not None and made[0] == "route" and value.type.scalar.is_float


def _is_sum_of(converter: Converter, weights: Value, total: Value) -> bool:
    """Whether ``total`` is the sum of each token's ``weights``, but for a number too small to count."""
    if not _is_routed(converter, weights):
        return False
    made = converter.emit.made.get(total)
    if made is not None and made[0] == "add":
        made = converter.emit.made.get(made[1][0])
    if made is None or made[0] != "mul":
        return False
    mean = converter.emit.made.get(made[1][0])
    return mean is not None and mean[0] == "mean" and mean[1] == (weights,)


def _again(converter: Converter, weights: Value, **changed: float) -> Value:
    """The weights of the same choice, otherwise made."""
    _, operands, attributes = converter.emit.made[weights]
    _, again = converter.emit.all("route", *operands, **{**attributes, **changed})
    return again


def _softmax(converter: Converter, node: torch.fx.Node) -> Term:
    term: Any = converter.term(node.args[0])
    if isinstance(term, BestLogits):
        return _emit_route(converter, [term.logits], term.count, "softmax_of_chosen", None)[1]
    return reduction.RULES["aten.softmax"](converter, node)


def _sum(converter: Converter, node: torch.fx.Node) -> Term:
    term: Any = converter.term(node.args[0])
    return term if isinstance(term, Groups) else reduction.RULES["aten.sum"](converter, node)


def _largest(converter: Converter, node: torch.fx.Node) -> Term:
    """The best of each group."""
    source = cast(torch.fx.Node, node.args[0])
    term, layout = converter.term(source), converter.layout(source)
    if not isinstance(term, Value) or layout.rank != 3:
        raise CompileError("a maximum along a dimension is supported of groups of experts only")
    groups = Groups(_before_reshape(converter, term), int(layout.sizes[1]), 1)
    return cast(Term, (groups, None) if isinstance(node.meta["val"], list | tuple) else groups)


def _scatter(converter: Converter, node: torch.fx.Node) -> Term:
    """A mask of the groups that are kept: ones where their numbers are, in zeros."""
    zeros, groups = converter.term(node.args[0]), converter.term(node.args[2])
    if zeros != Positional(0, 0.0) or not isinstance(groups, Groups):
        raise CompileError("writing by number is supported for the groups of a router only")
    return cast(Term, groups)


def _masked_fill(converter: Converter, node: torch.fx.Node) -> Term:
    kept: Any = converter.term(node.args[1])
    if isinstance(kept, Groups):
        if kept.scores is not converter.value(node.args[0]):
            raise CompileError("groups are chosen by other scores than experts")
        return cast(Term, Kept(kept))
    return choices.RULES["aten.masked_fill"](converter, node)


def _not(converter: Converter, node: torch.fx.Node) -> Term:
    """Groups that are not kept are what scores are filled at."""
    term: Any = converter.term(node.args[0])
    return term if isinstance(term, Groups) else choices.RULES["aten.logical_not"](converter, node)


def _gather(converter: Converter, node: torch.fx.Node) -> Term:
    """The scores of the chosen experts are their weights."""
    scores, experts = converter.term(node.args[0]), converter.term(node.args[2])
    if isinstance(scores, Value) and isinstance(experts, Value) and (scores, experts) in converter.chosen:
        return converter.chosen[scores, experts]
    along_rows = cast(int, node.args[1]) % 2 == 1
    if isinstance(scores, Value) and isinstance(experts, Value) and scores.type.rank == 2 and along_rows:
        return converter.emit("take_chosen", scores, experts)
    return linear.RULES["aten.gather"](converter, node)


def _sparse_mix(converter: Converter, node: torch.fx.Node) -> Term:
    logits, count, jitter = node.args
    experts, weights = converter.emit.all(
        "route",
        converter.value(logits),
        experts_per_token=cast(int, count),
        scores="sparsemixer",
        groups=1,
        kept_groups=1,
        group_terms=1,
        normalize=False,
        scale=1.0,
        jitter=cast(float, jitter),
    )
    return weights, experts


def _expert_linear(converter: Converter, node: torch.fx.Node) -> Term:
    x, weight, experts, bias = node.args
    operands = [converter.value(x), converter.weight(weight), converter.value(experts)]
    if bias is not None:
        operands.append(converter.value(bias))
    return converter.emit("expert_linear", *operands)


def _weighted_sum(converter: Converter, node: torch.fx.Node) -> Term:
    x, weights = (converter.value(argument) for argument in node.args[:2])
    return converter.emit("weighted_sum", x, weights)


RULES: dict[str, Rule] = {
    "aten.topk": _topk,
    "aten.softmax": _softmax,
    "aten._softmax": _softmax,
    "aten.sum": _sum,
    "aten.div": _divide,
    "aten.mul": _multiply,
    "aten.max": _largest,
    "aten.amax": _largest,
    "aten.scatter": _scatter,
    "aten.masked_fill": _masked_fill,
    "aten.bitwise_not": _not,
    "aten.logical_not": _not,
    "aten.gather": _gather,
    "ingot.sparse_mix": _sparse_mix,
    "ingot.expert_linear": _expert_linear,
    "ingot.weighted_sum": _weighted_sum,
}
