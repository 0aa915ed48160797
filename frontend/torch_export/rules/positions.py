"""Where tokens stand: over a whole sequence, what counts tokens is their positions."""

from __future__ import annotations

import torch

from ....ir.errors import CompileError
from ..converter import Converter, Rule
from ..terms import Positional, Term, Truth

__all__ = ["RULES"]


def _arange(converter: Converter, node: torch.fx.Node) -> Term:
    """``arange(start, start + tokens)``."""
    bounds = [0, *node.args] if len(node.args) == 1 else list(node.args)
    start = bounds[0]
    if isinstance(start, torch.fx.Node) and len(bounds) == 2:
        return _from_the_end(converter, node, start)
    if not isinstance(start, int) or len(bounds) > 2:
        raise CompileError("a range of tokens counts from a number, by ones")
    return Positional(1, start)


def _from_the_end(converter: Converter, node: torch.fx.Node, start: torch.fx.Node) -> Term:
    """``arange(number - tokens, number)``, which counts up to the last token."""
    expression = start.meta["val"].node.expr
    symbols = list(expression.free_symbols)
    number = expression + symbols[0] if len(symbols) == 1 else None
    if number is None or not number.is_Integer or len(converter.layout(node).tokens) != 1:
        raise CompileError(f"a range of tokens that begins at {expression} is not supported")
    emit = converter.emit
    behind = emit("sub", emit.number(float(number)), emit("sequence_length", converter.positions))
    return emit("add", emit("cast", converter.positions, to="float32"), behind)


def _cumsum(converter: Converter, node: torch.fx.Node) -> Term:
    """The running sum of ones counts the tokens from 1."""
    term = converter.term(node.args[0])
    if isinstance(term, Truth):
        term = Positional(0, float(term.value))
    if not isinstance(term, Positional) or term.multiple != 0:
        raise CompileError("a running sum over the tokens is not supported")
    return Positional(int(term.offset), term.offset)


RULES: dict[str, Rule] = {"aten.arange": _arange, "aten.cumsum": _cumsum}
