"""How the tensors of a trace lie in our graph: the batch left out, tokens in front.

A trace holds ``[batch, heads, tokens, head_dim]`` where our graphs hold ``[tokens, heads, head_dim]``. Which
dimensions of a traced tensor a value keeps, and in which order, follows from the traced shape alone; so
transposing and expanding over the batch cost nothing, and whatever made a tensor, its value lies alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...ir.errors import CompileError
from ...ir.types import Dim
from .lengths import at_length, longest_of
from .tracing import BATCH

__all__ = ["TOKENS", "Layout"]

TOKENS = "tokens"

_FEW = (8, 24)
"""Numbers of tokens at which a dimension is looked at, beside the most, to see what it is at all."""


@dataclass(frozen=True)
class Layout:
    """The dimensions of a traced tensor, each without the batch's part; ``in_batch`` says which had one.

    A dimension that goes over tokens and, within each, over something else, is two here: ``inner`` holds the
    second of these.
    """

    sizes: tuple[Dim, ...]
    in_batch: tuple[bool, ...]
    inner: tuple[int, ...] = ()

    @classmethod
    def of(cls, shape: Sequence[Any]) -> Layout:
        """The layout of a traced shape; raises :class:`CompileError` where a dimension mixes tokens."""
        sizes: list[Dim] = []
        in_batch: list[bool] = []
        inner: list[int] = []
        for size in shape:
            first, batch, each = _dim(size)
            sizes.append(first)
            in_batch.append(batch)
            if each > 1:
                inner.append(len(sizes))
                sizes.append(each)
                in_batch.append(False)
        return cls(tuple(sizes), tuple(in_batch), tuple(inner))

    @property
    def rank(self) -> int:
        """Dimensions of the traced tensor, of which none may be two here."""
        if self.inner:
            raise CompileError(f"this is not supported along a dimension of tokens and parts, {self.sizes}")
        return len(self.sizes)

    def dim(self, traced: int) -> int:
        """Which of the dimensions here a traced one is, which may count from the end."""
        outer = [index for index in range(len(self.sizes)) if index not in self.inner]
        dim = outer[traced]
        if dim + 1 in self.inner:
            raise CompileError(f"this is not supported along a dimension of tokens and parts, {self.sizes}")
        return dim

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The traced dimension of each axis of the value."""
        kept = [
            index
            for index, size in enumerate(self.sizes)
            if not (size == 1 and (self.in_batch[index] or self._stands_for_batch(index)))
        ]
        if self.sizes.count(TOKENS) == 1:
            tokens = self.sizes.index(TOKENS)
            kept.remove(tokens)
            kept.insert(0, tokens)
        return tuple(kept)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The traced dimensions that count tokens."""
        return tuple(index for index, size in enumerate(self.sizes) if size == TOKENS)

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The shape of the value."""
        return tuple(self.sizes[axis] for axis in self.axes)

    def _stands_for_batch(self, index: int) -> bool:
        """Whether a first dimension of 1 beside tokens is one that the batch will be broadcast over."""
        return index == 0 and TOKENS in self.sizes

    def elements_before_tokens(self) -> int | None:
        """Elements from one token to the one before it are apart by those after; None without tokens.

        Two shapes of one tensor, reshaped, hold the same token in the same row only where these are equal.
        """
        if self.sizes.count(TOKENS) != 1:
            return None
        before = self.sizes[: self.sizes.index(TOKENS)]
        return math.prod(int(size) for size in before)


def _dim(size: Any) -> tuple[Dim, bool, int]:
    """A dimension without the batch, whether it had it, and how many there are of each token."""
    if isinstance(size, int):
        return (size // BATCH, True, 1) if size and size % BATCH == 0 else (size, False, 1)
    expression = size.node.expr
    if len(expression.free_symbols) == 1:
        # Code that asks for the larger of two lengths, say, leaves an expression that is always one of them.
        sizes = {n: int(at_length(expression, n)) for n in (*_FEW, longest_of(size))}
        if len(numbers := set(sizes.values())) == 1:
            return _dim(numbers.pop())
        each = {found // n for n, found in sizes.items() if found % n == 0}
        if len(each) == 1 and all(found % n == 0 for n, found in sizes.items()):
            (factor,) = each
            return (TOKENS, True, factor // BATCH) if factor % BATCH == 0 else (TOKENS, False, factor)
    raise CompileError(f"a dimension of {expression} is neither a number nor the tokens")
