"""Causal attention over a paged KV cache, for any mixture of prefill and decode.

The batch's rows are cut into chunks; a worker takes one chunk for heads of one KV head and goes through the
sequences in it. For each it walks the context in blocks of :data:`KEYS` keys with a running maximum and sum
(:mod:`.online_softmax`): a block's keys and values are converted to float32 once, then serve every query of
the run. What one query computes depends on its own position alone: blocks start at multiples of
:data:`KEYS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from .cache import CachedHeads, CodedElement, FloatElement
from .isa import Isa
from .online_softmax import KEYS, OnlineSoftmax
from .rows import Rows
from .script import Buffer, Expr, T, Vector, broadcast, cast, kernel, load, store, symbol

__all__ = ["KEYS", "AttentionShape", "paged_attention"]

CHUNK_ROWS = 8
"""Rows of the batch that one worker takes at a time."""

FEW_HEADS, MANY_HEADS = 4, 16
"""The fewest and the most query heads of one KV head that a worker takes where it does not take all."""


@dataclass(frozen=True)
class AttentionShape:
    """What a kernel is specialised to.

    ``window`` counts the query's own position, 0 is none; ``soft_cap`` bounds the scores, 0.0 does not;
    with ``has_sinks`` each head has one more logit, of a key that adds nothing; ``slopes``, one a head, times
    how far a key lies before the query are taken off its score, and there may be none. Values have
    ``value_dim`` elements; where they are ``values_of_keys``, they are the first of the keys' and have no
    cache.
    """

    heads: int
    kv_heads: int
    head_dim: int
    page_size: int
    element: FloatElement | CodedElement
    scale: float
    window: int
    value_dim: int
    soft_cap: float = 0.0
    has_sinks: bool = False
    values_of_keys: bool = False
    slopes: tuple[float, ...] = ()

    @property
    def group(self) -> int:
        """Query heads that share a KV head."""
        return self.heads // self.kv_heads

    @property
    def keys(self) -> CachedHeads:
        """How keys lie."""
        return CachedHeads(self.element, self.kv_heads, self.head_dim, self.page_size, by_column=True)

    @property
    def values(self) -> CachedHeads:
        """How values lie that have a cache."""
        return CachedHeads(self.element, self.kv_heads, self.value_dim, self.page_size, by_column=False)

    @property
    def heads_at_once(self) -> int:
        """Query heads that a worker takes: those of a KV head, or where these are many, a part of them.

        Then a single token is work for several. Each converts the keys for itself, which few heads are not
        worth.
        """
        parts = [count for count in range(FEW_HEADS, MANY_HEADS + 1) if self.group % count == 0]
        return self.group if self.group <= MANY_HEADS or not parts else parts[-1]


def paged_attention(isa: Isa, name: str, shape: AttentionShape, q: Rows) -> tirx.PrimFunc:
    """Attention of each sequence's newest tokens over its pages.

    Arguments: q float32 ``[m, q.stride]``; the arrays of both caches as :mod:`.cache` lays them;
    ``sequence_starts`` int32 ``[sequences + 1]``, ``context_lengths`` int32 ``[sequences]``, ``page_table``
    int32 ``[sequences, pages_per_sequence]``; sinks float32 ``[heads]`` if there are any; the result
    ``[m, heads * value_dim]``.
    """
    heads, dim, value_dim = shape.heads_at_once, shape.head_dim, shape.value_dim
    lanes = isa.lanes
    stretch = min(KEYS, shape.page_size)  # neighbouring keys of a block that are in one page

    caches = [shape.keys] if shape.values_of_keys else [shape.keys, shape.values]
    num_key_arrays, num_arrays = len(shape.keys.parts), sum(len(cache.parts) for cache in caches)

    def body(rows: Buffer, *rest: Buffer) -> None:
        keys, values = rest[:num_key_arrays], rest[num_key_arrays:num_arrays]
        sequence_starts, context_lengths, page_table, *sinks, out = rest[num_arrays:]
        num_rows, num_sequences = rows.shape[0], context_lengths.shape[0]
        num_chunks = (num_rows + (CHUNK_ROWS - 1)) // CHUNK_ROWS
        with T.parallel(num_chunks * (shape.heads // heads)) as item:
            turn = item // (shape.heads // heads)
            first_head = tirx.floormod(item, shape.heads // heads) * heads
            kv_head = first_head // shape.group
            # Later chunks of a prompt see more; first, last, second, last but one: neighbours' work is even.
            folded = num_chunks - 1 - turn // 2
            chunk = tirx.Select(tirx.floormod(turn, 2) == 0, turn // 2, folded)
            first, last = Vector("int32", 1), Vector("int32", 1)
            state = OnlineSoftmax(
                isa,
                num_rows=CHUNK_ROWS,
                group=heads,
                dim=dim,
                value_dim=value_dim,
                scale=shape.scale,
                soft_cap=shape.soft_cap,
            )
            slopes = _slopes_from(first_head, heads, shape) if shape.slopes else None

            def load_block(sequence: Expr, start: Expr, length: Expr) -> None:
                """Convert the block's keys and values; pages past the context repeat the last."""
                with T.serial(KEYS // stretch) as index:
                    last_page = (length - 1) // shape.page_size
                    first_key = start + index * stretch
                    page, inside = Vector("int32", 1), Vector("int32", 1)
                    page.set(load(page_table, (sequence, tirx.min(first_key // shape.page_size, last_page))))
                    inside.set(tirx.floormod(first_key, shape.page_size))
                    upcoming, ahead = Vector("int32", 1), Vector("int32", 1)
                    following = tirx.min((first_key + KEYS) // shape.page_size, last_page)
                    upcoming.set(load(page_table, (sequence, following)))
                    ahead.set(tirx.floormod(first_key + KEYS, shape.page_size))
                    key_lanes = min(lanes, stretch)
                    offsets = [inside.value + part for part in range(0, stretch, key_lanes)]

                    def take_keys(column: Expr, part: int, value: tirx.Expr) -> None:
                        store(state.keys, (column, index * stretch + part * key_lanes), value, key_lanes)

                    ahead_of_keys = upcoming.value, ahead.value
                    shape.keys.read_keys(
                        keys, page.value, kv_head, offsets, key_lanes, ahead_of_keys, take_keys
                    )
                    if shape.values_of_keys:
                        with T.serial(stretch) as offset, T.serial(value_dim) as column:
                            key = index * stretch + offset
                            store(state.values, (key, column), load(state.keys, (column, key)))
                        return
                    with T.serial(stretch) as offset:

                        def take_values(column: int, width: int, value: tirx.Expr) -> None:
                            store(state.values, (index * stretch + offset, column), value, width)

                        own, later = inside.value + offset, (upcoming.value, ahead.value + offset)
                        shape.values.read_values(isa, values, page.value, kv_head, own, later, take_values)

            def seen(start: Expr, own: Expr) -> tirx.Expr:
                """Which of ``lanes`` keys from ``start`` a query at position ``own`` attends to."""
                places = tirx.Ramp(start, 1, lanes)
                visible = places <= broadcast(own, lanes)
                if shape.window:
                    visible = tirx.And(visible, places > broadcast(own - shape.window, lanes))
                return visible

            def fall(start: Expr, own: Expr, member: Expr) -> tirx.Expr:
                """What a query at position ``own`` adds to the scores of ``lanes`` keys from ``start``."""
                assert slopes is not None
                distance = tirx.Ramp(start, 1, lanes) - broadcast(own, lanes)
                return broadcast(load(slopes, member), lanes) * cast("float32", lanes, distance)

            with T.serial(num_sequences) as sequence:
                first.set(tirx.max(load(sequence_starts, (sequence,)), cast("int32", 1, chunk * CHUNK_ROWS)))
                last.set(
                    tirx.min(
                        load(sequence_starts, (sequence + 1,)), cast("int32", 1, (chunk + 1) * CHUNK_ROWS)
                    )
                )
                with T.If(first.value < last.value), T.Then():
                    count = last.value - first.value
                    length = load(context_lengths, (sequence,))
                    position, end, begin = Vector("int32", 1), Vector("int32", 1), Vector("int32", 1)
                    position.set(length - load(sequence_starts, (sequence + 1,)) + first.value)
                    end.set((position.value + count - 1) // KEYS + 1)
                    earliest = position.value - (shape.window - 1) if shape.window else T.int32(0)
                    begin.set(tirx.max(earliest, 0) // KEYS)
                    sink_rows = sinks[0] if sinks else None
                    state.load_queries(rows, q, first.value, count, first_head, sink_rows)
                    with T.serial(end.value - begin.value) as index:
                        start = Vector("int32", 1)
                        start.set((begin.value + index) * KEYS)
                        load_block(sequence, start.value, length)
                        state.add_block(
                            count,
                            tirx.min(length - start.value, KEYS),
                            lambda row, key: seen(start.value + key, position.value + row),
                            None
                            if slopes is None
                            else lambda row, member, key: fall(
                                start.value + key, position.value + row, member
                            ),
                        )
                    state.store_results(out, first.value, count, first_head)

    m, pages, sequences, bounds, width = (
        symbol(s) for s in ("m", "pages", "sequences", "bounds", "table_width")
    )
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("q", (m, q.stride), "float32"),
        *(
            (name + part.suffix.replace(".", "_"), (pages, *part.shape), part.dtype)
            for name, cache in zip(("keys", "values"), caches, strict=False)
            for part in cache.parts
        ),
        ("sequence_starts", (bounds,), "int32"),
        ("context_lengths", (sequences,), "int32"),
        ("page_table", (sequences, width), "int32"),
    ]
    if shape.has_sinks:
        arguments.append(("sinks", (shape.heads,), "float32"))
    arguments.append(("out", (m, shape.heads * value_dim), "float32"))
    return kernel(name, arguments, body)


def _slopes_from(first_head: Expr, count: int, shape: AttentionShape) -> Buffer:
    """The slopes of a worker's heads, in scratch."""
    slopes = T.alloc_buffer((count,), "float32")
    for start in range(0, shape.heads, count):
        with T.If(first_head == start), T.Then():
            for member, slope in enumerate(shape.slopes[start : start + count]):
                store(slopes, member, T.float32(slope))
    return slopes
