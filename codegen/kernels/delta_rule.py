"""The gated delta rule over slots of state: a worker walks over a sequence's tokens with one head's columns.

How workers share the work, and why their sums have one order, is said in :mod:`.recurrent`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from .isa import Isa, fma
from .rows import Rows, exponential, load_rows, softplus
from .script import Buffer, Expr, T, Vector, broadcast, kernel, load, store
from .slots import Argument, Batch, Strip, described_batch, each_strip

__all__ = ["DeltaShape", "paged_delta"]


@dataclass(frozen=True)
class DeltaShape:
    """What a delta rule is specialised to: ``groups`` of heads share queries and keys."""

    heads: int
    value_dim: int
    groups: int
    key_dim: int
    page_size: int


def paged_delta(
    isa: Isa, name: str, shape: DeltaShape, q: Rows, k: Rows, v: Rows, steps: Rows, rates: Rows
) -> tirx.PrimFunc:
    """The gated delta rule over the tokens of each sequence.

    Arguments: the slots float32 ``[pages, heads, key_dim, value_dim]``; ``q``, ``k``, ``v``, ``steps`` and
    ``rates`` ``[m, stride]``; decay and the steps' bias ``[heads]``; the batch's description; the result
    ``[m, heads * value_dim]``.
    """
    group = shape.heads // shape.groups

    def body(
        slots: Buffer,
        q_rows: Buffer,
        k_rows: Buffer,
        v_rows: Buffer,
        step_rows: Buffer,
        rate_rows: Buffer,
        decay: Buffer,
        bias: Buffer,
        starts: Buffer,
        lengths: Buffer,
        table: Buffer,
        out: Buffer,
    ) -> None:
        batch = Batch(starts, lengths, table, shape.page_size)

        def apply(item: Expr, strip: Strip) -> None:
            sequence, head = item // shape.heads, tirx.floormod(item, shape.heads)
            lanes, first = strip.lanes, head // group * shape.key_dim
            state = T.alloc_buffer((shape.key_dim, strip.count * lanes), "float32")
            places = [index * lanes for index in range(strip.count)]
            kept, rate, factor = (Vector("float32", 1) for _ in range(3))
            recalled, corrections, totals = (strip.vectors() for _ in range(3))

            def begin(page: Expr | None) -> None:
                with T.serial(shape.key_dim) as element:
                    for column, place in zip(strip.columns, places, strict=True):
                        value = (
                            broadcast(T.float32(0), lanes)
                            if page is None
                            else load(slots, (page, head, element, column), lanes)
                        )
                        store(state, (element, place), value, lanes)

            def advance(row: Expr) -> None:
                kept.set(load_rows(step_rows, steps, row, head) + load(bias, (head,)))
                kept.set(exponential(isa, 1, softplus(isa, kept.value) * load(decay, (head,))))
                rate.set(load_rows(rate_rows, rates, row, head))
                for vector in (*recalled, *totals):
                    vector.fill(T.float32(0))
                with T.serial(shape.key_dim) as element:
                    factor.set(load_rows(k_rows, k, row, first + element))
                    for place, sums in zip(places, recalled, strict=True):
                        held = load(state, (element, place), lanes)
                        sums.set(fma(lanes, held, broadcast(factor.value, lanes), sums.value))
                for column, sums, correction in zip(strip.columns, recalled, corrections, strict=True):
                    value = load_rows(v_rows, v, row, head * shape.value_dim + column, lanes)
                    missing = value - sums.value * broadcast(kept.value, lanes)
                    correction.set(missing * broadcast(rate.value, lanes))
                with T.serial(shape.key_dim) as element:
                    key, query = (
                        broadcast(load_rows(buffer, view, row, first + element), lanes)
                        for buffer, view in ((k_rows, k), (q_rows, q))
                    )
                    for place, correction, total in zip(places, corrections, totals, strict=True):
                        now = Vector("float32", lanes)
                        now.set(load(state, (element, place), lanes) * broadcast(kept.value, lanes))
                        now.set(fma(lanes, key, correction.value, now.value))
                        store(state, (element, place), now.value, lanes)
                        total.set(fma(lanes, now.value, query, total.value))
                for column, total in zip(strip.columns, totals, strict=True):
                    store(out, (row, head * shape.value_dim + column), total.value, lanes)

            def leave(page: Expr) -> None:
                with T.serial(shape.key_dim) as element:
                    for column, place in zip(strip.columns, places, strict=True):
                        value = load(state, (element, place), lanes)
                        store(slots, (page, head, element, column), value, lanes)

            batch.walk(sequence, begin, advance, leave)

        each_strip(isa, shape.value_dim, lengths.shape[0] * shape.heads, apply)

    described, pages, m = described_batch()
    arguments: list[Argument] = [
        ("slots", (pages, shape.heads, shape.key_dim, shape.value_dim), "float32"),
        ("q", (m, q.stride), "float32"),
        ("k", (m, k.stride), "float32"),
        ("v", (m, v.stride), "float32"),
        ("steps", (m, steps.stride), "float32"),
        ("rates", (m, rates.stride), "float32"),
        ("decay", (shape.heads,), "float32"),
        ("bias", (shape.heads,), "float32"),
        *described,
        ("out", (m, shape.heads * shape.value_dim), "float32"),
    ]
    return kernel(name, arguments, body)
