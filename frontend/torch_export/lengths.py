"""What an expression in the number of tokens is for some number of them."""

from __future__ import annotations

from typing import Any

import sympy
import torch

__all__ = ["MANY", "at_length", "longest_of"]

MANY = 1 << 20
"""More tokens than a sequence has, where a model sets no limit."""


def at_length(expression: Any, tokens: int) -> Any:
    """``expression``, whose only symbol is the number of tokens, for so many: a number or a truth value."""
    (symbol,) = expression.free_symbols
    return sympy.sympify(expression).xreplace({symbol: sympy.Integer(tokens)})


def longest_of(size: torch.SymInt) -> int:
    """The most tokens for which the trace that ``size`` is of holds, at most :data:`MANY`."""
    (symbol,) = size.node.expr.free_symbols
    upper = size.node.shape_env.var_to_range[symbol].upper
    return min(MANY, int(upper)) if upper.is_Integer else MANY
