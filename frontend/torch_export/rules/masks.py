"""Arithmetic with the causal mask, in the form that attention is recognised by: scores, and then the mask."""

from __future__ import annotations

from typing import Any, cast

import torch

from ....ir.errors import CompileError
from ....ir.graph import Value
from ..converter import Converter
from ..layout import TOKENS
from ..terms import HIDDEN, Mask, MaskForm, Positional, Seen, Term

__all__ = ["add_mask", "combine_masks", "compare_masks"]


def combine_masks(converter: Converter, operator: str, left: Any, right: Any) -> Term:
    """What an operator makes of a mask and something else; None where neither operand is one."""
    terms = converter.term(left), converter.term(right)
    if not any(isinstance(term, Mask | Seen) for term in terms):
        return None
    first, second = terms
    turned = operator == "sub" and _is_number(first, 1)
    if turned and isinstance(second, Mask) and second.form is not MaskForm.ADDED:
        return Mask(second.window, second.form.opposite)
    if operator in ("add", "mul"):
        for one, other, argument in ((first, second, right), (second, first, left)):
            if isinstance(one, Mask) and (found := _with_mask(converter, operator, one, other, argument)):
                return found
    raise CompileError("the causal mask is used other than to hide scores, which is not supported")


def compare_masks(converter: Converter, node: torch.fx.Node, kind: str) -> Mask | None:
    """A mask compared with 0, or keys' positions with queries', as masks; else None."""
    left, right = node.args[:2]
    first, second = converter.term(left), converter.term(right)
    if isinstance(first, Mask) and kind in ("eq", "ne") and _is_number(second, 0):
        form = MaskForm.HIDDEN if first.form is MaskForm.ADDED else first.form
        return Mask(first.window, form.opposite if kind == "eq" else form)
    pair = converter.layout(node).tokens
    if len(pair) != 2 or first != second or not isinstance(first, Positional) or first.multiple != 1:
        return None
    # Of the two dimensions over tokens the first is the queries'.
    behind = [
        cast(torch.fx.Node, argument).meta["val"].ndim - node.meta["val"].ndim for argument in (left, right)
    ]
    tokens = [converter.layout(cast(torch.fx.Node, argument)).tokens for argument in (left, right)]
    places = [only[0] - shift for only, shift in zip(tokens, behind, strict=True) if len(only) == 1]
    seen = {(pair[1], pair[0]): ("le", "gt"), (pair[0], pair[1]): ("ge", "lt")}.get(tuple(places))
    if seen is None or kind not in seen:
        return None
    return Mask(0, MaskForm.SEEN if kind == seen[0] else MaskForm.HIDDEN)


def _with_mask(converter: Converter, operator: str, mask: Mask, other: Term, argument: Any) -> Term:
    """A mask and a number, scores, or scores of which those hidden are 0 already."""
    if operator == "mul":
        if mask.form is MaskForm.HIDDEN and (number := _number(other)) is not None and number <= HIDDEN:
            return Mask(mask.window)
        if mask.form is MaskForm.SEEN and isinstance(other, Value):
            return Seen(other, mask.window)
        return None
    if mask.form is not MaskForm.ADDED:
        return None
    if isinstance(other, Seen):
        return _emit_mask(converter, other.scores, mask) if other.window == mask.window else None
    return None if isinstance(other, Mask) else add_mask(converter, argument, mask)


def add_mask(converter: Converter, scores: Any, mask: Mask) -> Value:
    """Scores ``[heads, tokens, tokens]``, -inf where the mask hides them."""
    return _emit_mask(converter, converter.value(scores), mask)


def _emit_mask(converter: Converter, scores: Value, mask: Mask) -> Value:
    hidden = converter.emit.reshape(converter.mask(mask.window), (1, TOKENS, TOKENS))
    return converter.emit("add", scores, hidden)


def _number(term: Term) -> float | None:
    if isinstance(term, Positional):
        return term.offset if term.multiple == 0 else None
    return float(term) if isinstance(term, int | float) else None


def _is_number(term: Term, number: float) -> bool:
    return _number(term) == number
