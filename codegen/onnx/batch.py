"""The ragged batch inside a graph: each sequence's tokens side by side, filled up to the longest.

All of it is computed once for a step, from what describes the batch (see :mod:`ingot.ir.operators.cache`).
"""

from __future__ import annotations

import numpy as np

from ...ir import ScalarType, Value
from .step import Step

__all__ = ["Batch"]

HIDDEN = -1e30
"""What is added to a score that is not to be seen: less than any, and still a number."""


class Batch:
    """Names of what rules need to know of a batch; ``starts`` is where sequences begin among the tokens."""

    def __init__(self, step: Step, starts: Value) -> None:
        self._step = step
        self._starts = step.name(starts)

    def _bounds(self, start: int, stop: int | None) -> str:
        step = self._step

        def compute() -> str:
            wide = step.once(("starts",), lambda: step.cast(self._starts, ScalarType.INT64))
            return step.slice(wide, 0, start, stop)

        return step.once(("bounds", start), compute)

    @property
    def firsts(self) -> str:
        """int64 ``[sequences]``: each sequence's first token."""
        return self._bounds(0, -1)

    @property
    def ends(self) -> str:
        """int64 ``[sequences]``: behind each sequence's last token."""
        return self._bounds(1, None)

    @property
    def counts(self) -> str:
        """int64 ``[sequences]``: each sequence's tokens in this step."""
        return self._step.once(("counts",), lambda: self._step.emit("Sub", self.ends, self.firsts))

    @property
    def places(self) -> str:
        """int64 ``[longest]``: 0, 1, ... up to the longest sequence's tokens."""
        step = self._step

        def compute() -> str:
            longest = step.emit("ReduceMax", self.counts, keepdims=0)
            return step.emit("Range", step.constant(0), longest, step.constant(1))

        return step.once(("places",), compute)

    @property
    def is_token(self) -> str:
        """bool ``[sequences, longest]``: whether a sequence has so many tokens."""
        step = self._step
        return step.once(
            ("is_token",), lambda: step.emit("Less", self.places, step.unsqueeze(self.counts, 1))
        )

    def spread(self, rows: str) -> str:
        """Rows ``[tokens, ...]`` as ``[sequences, longest, ...]``; what fills up is any token's."""
        step = self._step

        def compute() -> str:
            tokens = step.emit("Add", step.unsqueeze(self.firsts, 1), self.places)
            last = step.emit("Sub", step.emit("ReduceMax", self.ends, keepdims=0), step.constant(1))
            return step.emit("Min", tokens, last)

        return step.emit("Gather", rows, step.once(("spread",), compute), axis=0)

    def gather(self, rows: str) -> str:
        """The opposite: rows ``[sequences * longest, ...]`` as ``[tokens, ...]``."""
        step = self._step

        def compute() -> str:
            flat = step.reshape(self.is_token, [-1])
            return step.reshape(step.emit("NonZero", flat), [-1])

        return step.emit("Gather", rows, step.once(("gather",), compute), axis=0)

    def positions(self, lengths: str) -> str:
        """int64 ``[sequences, longest]``: each token's position, from the contexts' ``lengths``."""
        step = self._step

        def compute() -> str:
            wide = step.cast(lengths, ScalarType.INT64)
            before = step.emit("Sub", wide, self.counts)
            return step.emit("Add", step.unsqueeze(before, 1), self.places)

        return step.once(("positions", lengths), compute)

    def hide(self, key: tuple[object, ...], seen: str) -> str:
        """0 where ``seen`` is true, else :data:`HIDDEN`."""
        step = self._step
        numbers = [step.constant(np.array(number, np.float32)) for number in (0.0, HIDDEN)]
        return step.once(("hidden", *key), lambda: step.emit("Where", seen, *numbers))
