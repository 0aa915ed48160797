"""Operators that work element by element."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch

from ....ir.errors import CompileError
from ..converter import Converter, Rule
from ..terms import Positional, Term
from .masks import combine_masks

__all__ = ["RULES"]


def _unary(converter: Converter, node: torch.fx.Node, operator: str) -> Term:
    return converter.emit(operator, converter.value(node.args[0]))


def _gelu(converter: Converter, node: torch.fx.Node) -> Term:
    approximate = node.args[1] if len(node.args) > 1 else node.kwargs.get("approximate", "none")
    return _unary(converter, node, "gelu" if approximate == "none" else "gelu_tanh")


def _binary(converter: Converter, node: torch.fx.Node, operator: str) -> Term:
    left, right = node.args[:2]
    if node.kwargs.get("rounding_mode") is not None:
        raise CompileError("division that rounds is not supported")
    alpha = node.kwargs.get("alpha", 1)
    return _combine(converter, node, operator, left, right, alpha)


def _reversed(converter: Converter, node: torch.fx.Node, operator: str) -> Term:
    return _combine(converter, node, operator, node.args[1], node.args[0], node.kwargs.get("alpha", 1))


def _combine(
    converter: Converter, node: torch.fx.Node, operator: str, left: Any, right: Any, alpha: Any
) -> Term:
    positional = _positional(operator, converter.term(left), converter.term(right), alpha)
    if positional is not None:
        return positional
    masked = _masked(converter, node, operator, left, right)
    if masked is not None:
        return masked
    first, second = converter.aligned_as(left, node), converter.aligned_as(right, node)
    if alpha != 1:
        second = converter.emit("mul", second, converter.emit.number(float(alpha)))
    if operator in ("add", "mul") and _is_neutral(operator, right):
        return first
    if operator == "mul" and first is second:
        return converter.emit("square", first)
    return converter.emit(operator, first, second)


def _masked(converter: Converter, node: torch.fx.Node, operator: str, left: Any, right: Any) -> Term:
    """Scores ``[heads, tokens, tokens]`` in the form that attention is recognised by, else None.

    They are multiplied by a number rather than divided, and the mask comes after them.
    """
    if (masked := combine_masks(converter, operator, left, right)) is not None:
        return masked
    terms = converter.term(left), converter.term(right)
    if operator == "div" and len(converter.layout(node).tokens) == 2:
        divisor = (
            terms[1].item()
            if isinstance(terms[1], torch.Tensor) and terms[1].numel() == 1 and not terms[1].is_meta
            else terms[1]
        )
        if isinstance(divisor, int | float):
            return converter.emit("mul", converter.value(left), converter.emit.number(1.0 / divisor))
    return None


def _is_neutral(operator: str, right: Any) -> bool:
    return isinstance(right, int | float) and right == (0 if operator == "add" else 1)


def _positional(operator: str, left: Term, right: Term, alpha: Any) -> Positional | None:
    """Sums and products of positions and numbers, as far as they are such again."""
    if not (isinstance(left, Positional) or isinstance(right, Positional)):
        return None
    terms = [Positional(0, t) if isinstance(t, int | float) else t for t in (left, right)]
    terms = [Positional(0, t.item()) if isinstance(t, torch.Tensor) and t.numel() == 1 else t for t in terms]
    first, second = terms
    if not (isinstance(first, Positional) and isinstance(second, Positional)):
        return None
    if operator in ("add", "sub"):
        factor = alpha if operator == "add" else -alpha
        return Positional(first.multiple + factor * second.multiple, first.offset + factor * second.offset)
    if operator == "mul" and not (first.multiple and second.multiple):
        varying, number = (first, second.offset) if second.multiple == 0 else (second, first.offset)
        if number == int(number):
            return Positional(varying.multiple * int(number), varying.offset * number)
    return None


def _power(converter: Converter, node: torch.fx.Node) -> Term:
    base, exponent = node.args[:2]
    if isinstance(exponent, int | float):
        value = converter.value(base)
        if exponent == 2:
            return converter.emit("square", value)
        if exponent == 3:
            return converter.emit("mul", converter.emit("square", value), value)
        if exponent == -0.5:
            return converter.emit("rsqrt", value)
    return _binary(converter, node, "pow")


def _relu(converter: Converter, node: torch.fx.Node) -> Term:
    return converter.emit("maximum", converter.value(node.args[0]), converter.emit.number(0.0))


def _sqrt(converter: Converter, node: torch.fx.Node) -> Term:
    return converter.emit("pow", converter.value(node.args[0]), converter.emit.number(0.5))


def _softplus(converter: Converter, node: torch.fx.Node) -> Term:
    """``log(1 + exp(x))`` as ``max(x, 0) + log(1 + exp(-|x|))``, which does not overflow."""
    if len(node.args) > 1 and node.args[1] != 1:
        raise CompileError("a softplus of another sharpness than 1 is not supported")
    emit, x = converter.emit, converter.value(node.args[0])
    one = emit.number(1.0)
    size = emit("maximum", x, emit("neg", x))
    rest = emit("log", emit("add", emit("exp", emit("neg", size)), one))
    return emit("add", emit("maximum", x, emit.number(0.0)), rest)


def _log1p(converter: Converter, node: torch.fx.Node) -> Term:
    emit = converter.emit
    return emit("log", emit("add", converter.value(node.args[0]), emit.number(1.0)))


def _expm1(converter: Converter, node: torch.fx.Node) -> Term:
    emit = converter.emit
    return emit("sub", emit("exp", converter.value(node.args[0])), emit.number(1.0))


def _reciprocal(converter: Converter, node: torch.fx.Node) -> Term:
    return converter.emit("div", converter.emit.number(1.0), converter.value(node.args[0]))


def _abs(converter: Converter, node: torch.fx.Node) -> Term:
    value = converter.value(node.args[0])
    return converter.emit("maximum", value, converter.emit("neg", value))


def _clamp(converter: Converter, node: torch.fx.Node) -> Term:
    named = {**dict(zip(("min", "max"), node.args[1:3], strict=False)), **node.kwargs}
    out = converter.layout(node)
    value = converter.value(node.args[0])
    term = converter.term(node.args[0])
    if (
        isinstance(term, Positional)
        and named.get("max") is None
        and named.get("min") in (0, 1)
        and term.offset >= 0
    ):
        return term
    for bound, operator in (("min", "maximum"), ("max", "minimum")):
        if named.get(bound) is not None:
            limit = converter.aligned(named[bound], out)
            if not value.type.scalar.is_float:
                limit = converter.emit("cast", limit, to="int32")
            value = converter.emit(operator, value, limit)
    return value


def _filled(converter: Converter, node: torch.fx.Node) -> Term:
    """A tensor of one number over the tokens."""
    name = str(node.target)
    if "zeros" in name:
        return Positional(0, 0.0)
    if "ones" in name:
        return Positional(0, 1.0)
    return Positional(0, cast(float, node.args[1]))


_UNARY = ("neg", "exp", "log", "cos", "sin", "rsqrt", "sigmoid", "silu", "tanh", "square", "floor")
_BINARY = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "div", "maximum": "maximum", "minimum": "minimum",
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div",
}  # fmt: skip

RULES: dict[str, Rule] = {
    **{f"aten.{name}": partial(_unary, operator=name) for name in _UNARY},
    **{f"aten.{name}": partial(_binary, operator=operator) for name, operator in _BINARY.items()},
    "aten.rsub": partial(_reversed, operator="sub"),
    "aten.min.other": partial(_binary, operator="minimum"),
    "aten.pow": _power,
    "aten.gelu": _gelu,
    "aten.relu": _relu,
    "aten.sqrt": _sqrt,
    "aten.reciprocal": _reciprocal,
    "aten.abs": _abs,
    "aten.clamp": _clamp,
    "aten.clip": _clamp,
    "aten.clamp_min": _clamp,
    "aten.softplus": _softplus,
    "aten.log1p": _log1p,
    "aten.expm1": _expm1,
    "aten.ones": _filled,
    "aten.zeros": _filled,
    "aten.full": _filled,
    "aten.ones_like": _filled,
    "aten.zeros_like": _filled,
}
