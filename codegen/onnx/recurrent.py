"""Layers that keep a state: convolutions, delta rules and scans over slots of state.

A page's slot holds the state behind the last of its positions that is computed (see
:mod:`ingot.ir.operators.recurrent`). A run of the graph takes of each sequence no more than what one page
holds, so that a sequence writes one slot; who runs it cuts longer chunks at the ends of pages. Sequences are
filled up to the longest by tokens that leave a state as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from ...ir import Operation, ScalarType, Value
from .batch import Batch
from .step import MICROSOFT, Rule, Step

__all__ = ["RULES"]


class _Slots:
    """The slots a layer's sequences begin with and write."""

    def __init__(self, step: Step, slots: Value, described: Sequence[Value], page_size: int) -> None:
        self._step, self._slots, self._page_size = step, slots, page_size
        starts, self._lengths, self._table = described
        self.batch = Batch(step, starts)

    def _page_of(self, kind: str) -> str:
        """int64 ``[sequences]``: the page of the last position, or of that before this step's first."""
        step = self._step

        def compute() -> str:
            last = step.emit("Sub", self._ends(), step.constant(1))
            if kind == "before":
                last = step.emit("Max", step.emit("Sub", last, self.batch.counts), step.constant(0))
            column = step.unsqueeze(step.emit("Div", last, step.constant(self._page_size)), 1)
            table = step.cast(step.name(self._table), ScalarType.INT64)
            return step.emit(
                "Squeeze", step.emit("GatherElements", table, column, axis=1), step.constant([1])
            )

        return step.once(("slot", kind, self._page_size), compute)

    def _ends(self) -> str:
        step = self._step
        return step.once(("context ends",), lambda: step.cast(step.name(self._lengths), ScalarType.INT64))

    def first(self) -> str:
        """The states that the sequences begin with, ``[sequences, ...]``: zeros where one is new."""
        step = self._step

        def is_new() -> str:
            begin = step.emit("Sub", self._ends(), self.batch.counts)
            return step.emit("Equal", begin, step.constant(0))

        states = step.emit("Gather", step.name(self._slots), self._page_of("before"), axis=0)
        rank = self._slots.type.rank
        new = step.unsqueeze(step.once(("is new",), is_new), *range(1, rank))
        return step.emit("Where", new, step.constant(np.zeros((1,) * rank, np.float32)), states)

    def write(self, states: str, result: Value) -> None:
        """Write the states behind the sequences' last tokens."""
        step = self._step
        places = step.once(("slot places", self._page_size), lambda: step.unsqueeze(self._page_of("last"), 1))
        step.emit("ScatterND", step.name(self._slots), places, states, result=result)

    def spread(self, rows: str, width: int) -> str:
        """Rows as ``[sequences, longest, width]``, zeros where a sequence has no token."""
        step = self._step
        there = step.once(
            ("is there",), lambda: step.unsqueeze(step.cast(self.batch.is_token, ScalarType.FLOAT32), 2)
        )
        spread = self.batch.spread(step.reshape(rows, [-1, width]))
        return step.emit("Mul", spread, there)


def _paged_conv(step: Step, operation: Operation) -> None:
    slots, x, weight, *rest = operation.operands
    taps, channels = (int(dim) for dim in weight.type.shape)
    page_size = cast(int, operation.attributes["page_size"])
    state = _Slots(step, slots, rest[:3], page_size)
    written, result = operation.results
    rows = step.emit("Concat", state.first(), state.spread(step.name(x), channels), axis=1)
    # Of all these rows, as many as there are taps before the last token's end are the next state.
    behind = step.once(
        ("behind", taps),
        lambda: step.emit("Add", step.unsqueeze(state.batch.counts, 1), step.constant(list(range(taps - 1)))),
    )
    like = step.emit("Expand", step.unsqueeze(behind, 2), step.constant([1, 1, channels]))
    state.write(step.emit("GatherElements", rows, like, axis=1), written)
    total = ""
    for tap in range(taps):
        end = tap + 1 - taps
        part = step.slice(rows, 1, tap, end if end else None)
        kernel = step.slice(step.name(weight), 0, tap, tap + 1)
        product = step.emit("Mul", part, kernel)
        total = step.emit("Add", total, product) if total else product
    if rest[3:]:
        total = step.emit("Add", total, step.name(rest[3]))
    step.alias(result, state.batch.gather(step.reshape(total, [-1, channels])))


def _softplus(step: Step, steps: Value, bias: Value) -> str:
    return step.emit("Softplus", step.emit("Add", step.name(steps), step.name(bias)))


def _paged_scan(step: Step, operation: Operation) -> None:
    slots, x, steps, b, c, decay, skip, bias, *described = operation.operands
    heads, head_dim = int(x.type.shape[1]), int(x.type.shape[2])
    state = _Slots(step, slots, described, cast(int, operation.attributes["page_size"]))
    times = _softplus(step, steps, bias)
    added = step.emit("Mul", step.name(x), step.unsqueeze(times, 2))
    fading = step.emit("Mul", times, step.name(decay))
    queries, keys = (_repeated(step, value, heads) for value in (c, b))
    width = heads * int(b.type.shape[2])
    rows = _attend(
        step, state, operation, (queries, keys, added), (width, width, heads * head_dim), fading, "", heads
    )
    total = step.reshape(rows, [-1, heads, head_dim])
    skipped = step.emit("Mul", step.name(x), step.unsqueeze(step.name(skip), 1))
    step.emit("Add", total, skipped, result=operation.results[1])


def _paged_delta(step: Step, operation: Operation) -> None:
    slots, q, k, v, steps, rates, decay, bias, *described = operation.operands
    heads, value_dim, key_dim = int(v.type.shape[1]), int(v.type.shape[2]), int(k.type.shape[2])
    state = _Slots(step, slots, described, cast(int, operation.attributes["page_size"]))
    fading = step.emit("Mul", _softplus(step, steps, bias), step.name(decay))
    queries, keys = (_repeated(step, value, heads) for value in (q, k))
    widths = (heads * key_dim, heads * key_dim, heads * value_dim)
    rows = _attend(
        step, state, operation, (queries, keys, step.name(v)), widths, fading, step.name(rates), heads
    )
    step.reshape(rows, [-1, heads, value_dim], operation.results[1])


def _attend(
    step: Step,
    state: _Slots,
    operation: Operation,
    rows: tuple[str, str, str],
    widths: tuple[int, int, int],
    fading: str,
    rates: str,
    heads: int,
) -> str:
    """ONNX Runtime's recurrence over queries, keys and values; a token that is not there adds nothing.

    It fades nothing either: its decay is 0, the logarithm of 1. The result is ``[tokens, heads * dim]``.
    """
    inputs = [state.spread(name, width) for name, width in zip(rows, widths, strict=True)]
    inputs += [state.first(), state.spread(fading, heads)]
    if rates:
        inputs.append(state.spread(rates, heads))
    mixed, states = step.emit_all(
        "LinearAttention",
        *inputs,
        domain=MICROSOFT,
        results=2,
        q_num_heads=heads,
        kv_num_heads=heads,
        scale=1.0,
        update_rule="gated_delta" if rates else "gated",
    )
    state.write(states, operation.results[0])
    return state.batch.gather(step.reshape(mixed, [-1, widths[2]]))


def _repeated(step: Step, value: Value, heads: int) -> str:
    """Rows ``[tokens, groups, dim]``, each group for all heads that share it."""
    groups, dim = int(value.type.shape[1]), int(value.type.shape[2])
    if groups == heads:
        return step.name(value)
    apart = step.unsqueeze(step.name(value), 2)
    each = step.emit("Expand", apart, step.constant([1, 1, heads // groups, 1]))
    return step.reshape(each, [-1, heads, dim])


RULES: Mapping[str, Rule] = {
    "paged_conv": _paged_conv,
    "paged_delta": _paged_delta,
    "paged_scan": _paged_scan,
}
"""By operator."""
