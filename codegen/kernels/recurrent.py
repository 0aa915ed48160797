"""Layers with a recurrent state: what one sequence computes is one walk over its tokens, in order.

A worker takes some channels of one sequence, or some columns of one head's state. It begins with the slot of
the page that holds the position before the sequence's first token, keeps the state at hand, and writes it to
the slot of each page that the tokens fill or end in (see :mod:`ingot.ir.operators.recurrent`). No two workers
share anything they write, and a token's sums have one order, whatever the chunk or the batch it comes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from tvm import tirx

from .isa import Isa, fma
from .rows import Rows, exponential, load_rows, softplus
from .script import Buffer, Expr, T, Vector, broadcast, kernel, load, store
from .slots import Argument, Batch, Strip, described_batch, each_strip

__all__ = ["ScanShape", "paged_conv", "paged_scan"]


def paged_conv(isa: Isa, name: str, x: Rows, taps: int, page_size: int, has_bias: bool) -> tirx.PrimFunc:
    """Convolution of each channel over the tokens of its sequence.

    Arguments: the slots float32 ``[pages, taps - 1, width]``, ``x`` ``[m, x.stride]``, the weight ``[taps,
    width]``, the batch's description, a bias ``[width]`` if it ``has_bias``; the result ``[m, width]``.
    """

    def body(
        slots: Buffer,
        rows: Buffer,
        weight: Buffer,
        starts: Buffer,
        lengths: Buffer,
        table: Buffer,
        *rest: Buffer,
    ) -> None:
        *biases, out = rest
        batch = Batch(starts, lengths, table, page_size)

        def convolve(sequence: Expr, strip: Strip) -> None:
            lanes = strip.lanes
            weights = [strip.vectors() for _ in range(taps)]
            for tap, vectors in enumerate(weights):
                for column, vector in zip(strip.columns, vectors, strict=True):
                    vector.set(load(weight, (tap, column), lanes))
            # The last rows, oldest first; the last of these is the token's own.
            held = [strip.vectors() for _ in range(taps)]

            def begin(page: Expr | None) -> None:
                for tap, vectors in enumerate(held[:-1]):
                    for column, vector in zip(strip.columns, vectors, strict=True):
                        if page is None:
                            vector.fill(T.float32(0))
                        else:
                            vector.set(load(slots, (page, tap, column), lanes))

            def advance(row: Expr) -> None:
                for index, column in enumerate(strip.columns):
                    own = [vectors[index] for vectors in held]
                    own[-1].set(load_rows(rows, x, row, column, lanes))
                    total = Vector("float32", lanes)
                    if biases:
                        total.set(load(biases[0], (column,), lanes))
                    else:
                        total.fill(T.float32(0))
                    for value, vectors in zip(own, weights, strict=True):
                        total.set(fma(lanes, value.value, vectors[index].value, total.value))
                    store(out, (row, column), total.value, lanes)
                    for older, newer in pairwise(own):
                        older.set(newer.value)

            def leave(page: Expr) -> None:
                for tap, vectors in enumerate(held[:-1]):
                    for column, vector in zip(strip.columns, vectors, strict=True):
                        store(slots, (page, tap, column), vector.value, lanes)

            batch.walk(sequence, begin, advance, leave)

        each_strip(isa, x.width, lengths.shape[0], convolve)

    described, pages, m = described_batch()
    arguments: list[Argument] = [
        ("slots", (pages, taps - 1, x.width), "float32"),
        ("x", (m, x.stride), "float32"),
        ("weight", (taps, x.width), "float32"),
        *described,
    ]
    if has_bias:
        arguments.append(("bias", (x.width,), "float32"))
    return kernel(name, [*arguments, ("out", (m, x.width), "float32")], body)


@dataclass(frozen=True)
class ScanShape:
    """What a scan is specialised to: ``groups`` of heads share what is written to and read from the state."""

    heads: int
    head_dim: int
    groups: int
    state: int
    page_size: int


def paged_scan(
    isa: Isa, name: str, shape: ScanShape, x: Rows, steps: Rows, b: Rows, c: Rows
) -> tirx.PrimFunc:
    """The recurrence of Mamba-2 over the tokens of each sequence.

    Arguments: the slots float32 ``[pages, heads, state, head_dim]``; ``x``, ``steps``, ``b`` and ``c`` ``[m,
    stride]``; decay, skip and the steps' bias ``[heads]``; the batch's description; the result ``[m, heads *
    head_dim]``.
    """
    group = shape.heads // shape.groups

    def body(
        slots: Buffer,
        x_rows: Buffer,
        step_rows: Buffer,
        b_rows: Buffer,
        c_rows: Buffer,
        decay: Buffer,
        skip: Buffer,
        bias: Buffer,
        starts: Buffer,
        lengths: Buffer,
        table: Buffer,
        out: Buffer,
    ) -> None:
        batch = Batch(starts, lengths, table, shape.page_size)

        def scan(item: Expr, strip: Strip) -> None:
            sequence, head = item // shape.heads, tirx.floormod(item, shape.heads)
            lanes, first = strip.lanes, head // group * shape.state
            state = T.alloc_buffer((shape.state, strip.count * lanes), "float32")
            places = [index * lanes for index in range(strip.count)]
            time, kept = Vector("float32", 1), Vector("float32", 1)
            read, written = Vector("float32", 1), Vector("float32", 1)
            added, totals = strip.vectors(), strip.vectors()

            def begin(page: Expr | None) -> None:
                with T.serial(shape.state) as element:
                    for column, place in zip(strip.columns, places, strict=True):
                        value = (
                            broadcast(T.float32(0), lanes)
                            if page is None
                            else load(slots, (page, head, element, column), lanes)
                        )
                        store(state, (element, place), value, lanes)

            def advance(row: Expr) -> None:
                step = Vector("float32", 1)
                step.set(load_rows(step_rows, steps, row, head) + load(bias, (head,)))
                time.set(softplus(isa, step.value))
                kept.set(exponential(isa, 1, time.value * load(decay, (head,))))
                for column, add, total in zip(strip.columns, added, totals, strict=True):
                    value = Vector("float32", lanes)
                    value.set(load_rows(x_rows, x, row, head * shape.head_dim + column, lanes))
                    add.set(value.value * broadcast(time.value, lanes))
                    total.set(value.value * broadcast(load(skip, (head,)), lanes))
                with T.serial(shape.state) as element:
                    written.set(load_rows(b_rows, b, row, first + element))
                    read.set(load_rows(c_rows, c, row, first + element))
                    for place, add, total in zip(places, added, totals, strict=True):
                        now = Vector("float32", lanes)
                        now.set(load(state, (element, place), lanes) * broadcast(kept.value, lanes))
                        now.set(fma(lanes, add.value, broadcast(written.value, lanes), now.value))
                        store(state, (element, place), now.value, lanes)
                        total.set(fma(lanes, now.value, broadcast(read.value, lanes), total.value))
                for column, total in zip(strip.columns, totals, strict=True):
                    store(out, (row, head * shape.head_dim + column), total.value, lanes)

            def leave(page: Expr) -> None:
                with T.serial(shape.state) as element:
                    for column, place in zip(strip.columns, places, strict=True):
                        value = load(state, (element, place), lanes)
                        store(slots, (page, head, element, column), value, lanes)

            batch.walk(sequence, begin, advance, leave)

        each_strip(isa, shape.head_dim, lengths.shape[0] * shape.heads, scan)

    described, pages, m = described_batch()
    arguments: list[Argument] = [
        ("slots", (pages, shape.heads, shape.state, shape.head_dim), "float32"),
        ("x", (m, x.stride), "float32"),
        ("steps", (m, steps.stride), "float32"),
        ("b", (m, b.stride), "float32"),
        ("c", (m, c.stride), "float32"),
        ("decay", (shape.heads,), "float32"),
        ("skip", (shape.heads,), "float32"),
        ("bias", (shape.heads,), "float32"),
        *described,
        ("out", (m, shape.heads * shape.head_dim), "float32"),
    ]
    return kernel(name, arguments, body)
