"""Complex numbers, which some models turn queries and keys with: a real and an imaginary part apart."""

from __future__ import annotations

from typing import Any, cast

import torch

from ....ir.errors import CompileError
from ....ir.graph import Value
from ..converter import Converter, Rule
from ..terms import Complex, Positional, Term
from . import experts, shape, slices

__all__ = ["RULES"]


def _polar(converter: Converter, node: torch.fx.Node) -> Term:
    """Numbers of a length and an angle."""
    length, angle = node.args[:2]
    turned = converter.value(angle)
    parts = [converter.emit(name, turned) for name in ("cos", "sin")]
    if converter.term(length) != Positional(0, 1.0):
        factor = converter.aligned(length, converter.layout(node))
        parts = [converter.emit("mul", part, factor) for part in parts]
    return Complex(*parts)


def _as_complex(converter: Converter, node: torch.fx.Node) -> Term:
    """Pairs along the last dimension are a real and an imaginary part each."""
    source = converter.value(node.args[0])
    axis = source.type.rank - 1
    if converter.layout(cast(torch.fx.Node, node.args[0])).axes[axis] != converter.layout(node).rank:
        raise CompileError("pairs that do not lie behind one another are no complex numbers here")
    shape = converter.layout(node).shape
    parts = (converter.emit.slice(source, axis, part, part + 1) for part in (0, 1))
    return Complex(*(converter.emit.reshape(part, shape) for part in parts))


def _as_real(converter: Converter, node: torch.fx.Node) -> Term:
    term = _complex(converter, node.args[0])
    shape = converter.layout(node).shape
    parts = [converter.emit.reshape(part, (*shape[:-1], 1)) for part in (term.real, term.imaginary)]
    return converter.emit.concat(parts, len(shape) - 1)


def _multiply(converter: Converter, node: torch.fx.Node) -> Term:
    """The product of two complex numbers, or of one and a real one."""
    terms = [converter.term(argument) for argument in node.args[:2]]
    if not any(isinstance(term, Complex) for term in terms):
        return experts.RULES["aten.mul"](converter, node)
    out = converter.layout(node)
    emit = converter.emit
    left, right = (
        Complex(*(converter.aligned_value(part, argument, out) for part in (term.real, term.imaginary)))
        if isinstance(term, Complex)
        else converter.aligned(argument, out)
        for term, argument in zip(terms, node.args[:2], strict=True)
    )
    if isinstance(left, Complex) and isinstance(right, Complex):
        real = emit("sub", emit("mul", left.real, right.real), emit("mul", left.imaginary, right.imaginary))
        imaginary = emit(
            "add", emit("mul", left.real, right.imaginary), emit("mul", left.imaginary, right.real)
        )
        return Complex(real, imaginary)
    number, factor = (left, right) if isinstance(left, Complex) else (right, left)
    assert isinstance(number, Complex)
    assert isinstance(factor, Value)
    if factor.type.shape == (1,) and _is_one(converter, node):
        return number
    return Complex(emit("mul", number.real, factor), emit("mul", number.imaginary, factor))


def _is_one(converter: Converter, node: torch.fx.Node) -> bool:
    return any(isinstance(term, int | float) and term == 1 for term in map(converter.term, node.args[:2]))


def _complex(converter: Converter, argument: Any) -> Complex:
    term = converter.term(argument)
    if not isinstance(term, Complex):
        raise CompileError("is of no complex numbers that are known here")
    return term


def _part_by_part(rule: Rule) -> Rule:
    """A rule that moves elements, for complex numbers too."""

    def apply(converter: Converter, node: torch.fx.Node) -> Term:
        source = cast(torch.fx.Node, node.args[0])
        term = converter.term(source)
        if not isinstance(term, Complex):
            return rule(converter, node)
        parts = (converter.as_if(source, part, rule, node) for part in (term.real, term.imaginary))
        return Complex(*cast("tuple[Value, Value]", tuple(parts)))

    return apply


_MOVING = {**shape.RULES, **slices.RULES}
_MOVES = (
    "view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "_unsafe_view", "transpose", "permute",
    "expand", "slice", "select",
)  # fmt: skip

RULES: dict[str, Rule] = {
    **{f"aten.{name}": _part_by_part(_MOVING[f"aten.{name}"]) for name in _MOVES},
    "aten.mul": _multiply,
    "aten.polar": _polar,
    "aten.view_as_complex": _as_complex,
    "aten.view_as_real": _as_real,
}
