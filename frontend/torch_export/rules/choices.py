"""Comparisons, and choices by them.

What is the same for all tokens is known as a :class:`Truth`; other truth values are numbers, 0 or 1.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from ....ir.errors import CompileError
from ....ir.graph import Value
from ..converter import Converter, Rule
from ..terms import HIDDEN, Mask, MaskForm, Positional, Term, TokenIds, Truth
from . import elementwise
from .masks import add_mask, compare_masks

__all__ = ["RULES"]


def _compare(converter: Converter, node: torch.fx.Node) -> Term:
    left, right = node.args[:2]
    kind = str(node.target).removeprefix("aten.").partition(".")[0]
    known = _of_token(converter, kind, converter.term(left), converter.term(right))
    if known is not None:
        return known
    mask = compare_masks(converter, node, kind)
    if mask is not None:
        return mask
    emit = converter.emit
    out = converter.layout(node)
    first, second = (_float(converter, converter.aligned(argument, out)) for argument in (left, right))
    more, less = emit("greater", first, second), emit("greater", second, first)
    one = emit.number(1.0)
    results = {
        "gt": lambda: more,
        "lt": lambda: less,
        "le": lambda: emit("sub", one, more),
        "ge": lambda: emit("sub", one, less),
        "ne": lambda: emit("add", more, less),
        "eq": lambda: emit("sub", one, emit("add", more, less)),
    }
    return results[kind]()


def _of_token(converter: Converter, kind: str, left: Term, right: Term) -> Truth | None:
    """What is known of a token compared with a number: a sequence holds no padding, and only tokens."""
    if not isinstance(left, TokenIds) or not isinstance(right, int):
        return None
    if kind in ("eq", "ne") and (right == converter.padding or not 0 <= right < converter.vocab_size):
        return Truth(kind == "ne")
    first, last = 0, converter.vocab_size - 1
    outcomes = {
        "lt": (first < right, last < right),
        "le": (first <= right, last <= right),
        "gt": (first > right, last > right),
        "ge": (first >= right, last >= right),
    }.get(kind)
    return Truth(outcomes[0]) if outcomes is not None and outcomes[0] == outcomes[1] else None


def _float(converter: Converter, value: Value) -> Value:
    return value if value.type.scalar.is_float else converter.emit("cast", value, to="float32")


def _where(converter: Converter, node: torch.fx.Node) -> Term:
    """A choice; by a mask, scores where it lets them be seen, else a number whose exponential is 0."""
    condition, first, second = node.args[:3]
    return _choose(converter, node, condition, first, second)


def _masked_fill(converter: Converter, node: torch.fx.Node) -> Term:
    source, condition, number = node.args[:3]
    return _choose(converter, node, condition, number, source)


def _choose(converter: Converter, node: torch.fx.Node, condition: Any, first: Any, second: Any) -> Term:
    known = converter.term(condition)
    if isinstance(known, Truth):
        return _as_it_is(converter, node, first if known.value else second)
    if isinstance(known, Mask):
        seen, hidden = (first, second) if known.form is MaskForm.SEEN else (second, first)
        if known.form is not MaskForm.ADDED and _number(converter, hidden) <= HIDDEN:
            return add_mask(converter, seen, known)
        raise CompileError("a choice by the causal mask other than to hide is not supported")
    if not isinstance(known, Value):
        raise CompileError("a choice by what is not known is not supported")
    emit, out = converter.emit, converter.layout(node)
    values = [_float(converter, converter.aligned(argument, out)) for argument in (condition, first, second)]
    chosen = emit("where", *values)
    return chosen if node.meta["val"].dtype.is_floating_point else emit("cast", chosen, to="int32")


def _as_it_is(converter: Converter, node: torch.fx.Node, argument: Any) -> Term:
    term = converter.term(argument)
    same = (
        isinstance(argument, torch.fx.Node)
        and converter.layout(argument).sizes == converter.layout(node).sizes
    )
    if isinstance(term, int | float):
        return Positional(0, float(term))
    return term if same else converter.aligned_as(argument, node)


def _number(converter: Converter, argument: Any) -> float:
    """The number that a node is for all elements; infinity where it is none."""
    term = converter.term(argument)
    if isinstance(term, torch.Tensor) and term.numel() == 1:
        return float(term.item())
    if isinstance(term, Positional) and term.multiple == 0:
        return float(term.offset)
    return float(term) if isinstance(term, int | float) else float("inf")


def _and(converter: Converter, node: torch.fx.Node) -> Term:
    return _logic(converter, node, "mul", neutral=True)


def _or(converter: Converter, node: torch.fx.Node) -> Term:
    return _logic(converter, node, "maximum", neutral=False)


def _logic(converter: Converter, node: torch.fx.Node, operator: str, neutral: bool) -> Term:
    if node.meta["val"].dtype is not torch.bool:
        raise CompileError("arithmetic on the bits of numbers is not supported")
    left, right = node.args[:2]
    for one, other in ((left, right), (right, left)):
        term = converter.term(one)
        if isinstance(term, Truth):
            return converter.term(other) if term.value == neutral else Truth(not neutral)
    out = converter.layout(node)
    return converter.emit(operator, converter.aligned(left, out), converter.aligned(right, out))


def _not(converter: Converter, node: torch.fx.Node) -> Term:
    term = converter.term(node.args[0])
    if isinstance(term, Truth):
        return Truth(not term.value)
    if isinstance(term, Mask) and term.form is not MaskForm.ADDED:
        return Mask(term.window, term.form.opposite)
    if not isinstance(term, Value) or node.meta["val"].dtype is not torch.bool:
        raise CompileError("is no truth value that is known here")
    return converter.emit("sub", converter.emit.number(1.0), term)


def _write_where(converter: Converter, node: torch.fx.Node) -> Term:
    """``tensor[condition] = number``."""
    source, indices, number = cast("tuple[torch.fx.Node, list[Any], torch.fx.Node]", node.args[:3])
    if len(indices) != 1 or indices[0].meta["val"].dtype is not torch.bool:
        raise CompileError("writing by numbers of elements is not supported")
    return _choose(converter, node, indices[0], number, source)


def _largest_of_two(converter: Converter, node: torch.fx.Node) -> Term:
    """The larger; that a masked score is at least the smallest number there is makes no difference."""
    if _number(converter, node.args[1]) <= HIDDEN:
        return converter.term(node.args[0])
    return elementwise.RULES["aten.maximum"](converter, node)


RULES: dict[str, Rule] = {
    **{f"aten.{kind}": _compare for kind in ("eq", "ne", "gt", "ge", "lt", "le")},
    "aten.max.other": _largest_of_two,
    "aten.maximum": _largest_of_two,
    "aten.where": _where,
    "aten.masked_fill": _masked_fill,
    "aten.index_put": _write_where,
    "aten.logical_and": _and,
    "aten.bitwise_and": _and,
    "aten.__and__": _and,
    "aten.logical_or": _or,
    "aten.bitwise_or": _or,
    "aten.__or__": _or,
    "aten.logical_not": _not,
    "aten.bitwise_not": _not,
}
