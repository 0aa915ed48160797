"""Whether a trace is of all lengths: what the model's code asked about the number of tokens on the way."""

from __future__ import annotations

from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ...ir.errors import CompileError
from .lengths import MANY, at_length

__all__ = ["check_guards"]

_FIRST = 8
"""The first length that is tried. For fewer tokens code asks whether a dimension is 1, and goes on alike."""


def check_guards(shapes: ShapeEnv, most: int | None) -> None:
    """Raise :class:`CompileError` where a branch that the trace took is taken for some lengths only.

    torch proves less than it could: that ``min(2048, tokens)`` is at most ``tokens``, say. So each condition
    is tried, at every small length and at those about powers of two, up to ``most`` tokens.
    """
    last = MANY if most is None else most
    near = {(1 << power) + step for power in range(6, 21) for step in (-1, 0, 1)}
    lengths = sorted(n for n in {*range(_FIRST, 100), *near, last} if _FIRST <= n <= last)
    asserted = (each for several in shapes.deferred_runtime_asserts.values() for each in several)
    for condition in dict.fromkeys(guard.expr for guard in (*shapes.guards, *asserted)):
        if len(condition.free_symbols) != 1:
            continue
        for length in lengths:
            if not at_length(condition, length):
                raise CompileError(
                    f"its code does something else for {length} tokens than for others: {condition}"
                )
