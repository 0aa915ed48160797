"""Attention within whole sequences that lie side by side, both ways or to what came before, without pages.

The batch's rows are cut into chunks; a worker takes one chunk for one KV head and goes through the sequences
in it. Keys and values are rows of the batch too. Blocks begin at multiples of :data:`.online_softmax.KEYS` of
a sequence's own positions, so what one of its rows computes does not depend on what lies beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from .isa import Isa
from .online_softmax import KEYS, OnlineSoftmax
from .rows import Rows, load_rows, vectors
from .script import Buffer, Expr, T, Vector, broadcast, cast, kernel, load, store, symbol

__all__ = ["RaggedShape", "ragged_attention"]

CHUNK_ROWS = 32
"""Rows of the batch that one worker takes at a time; fewer where several heads share keys and values."""


@dataclass(frozen=True)
class RaggedShape:
    """What a kernel is specialised to. ``window`` counts the query's own position on each side, 0 is none."""

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int
    causal: bool

    @property
    def group(self) -> int:
        """Query heads that share a KV head."""
        return self.heads // self.kv_heads


def ragged_attention(isa: Isa, name: str, shape: RaggedShape, q: Rows, k: Rows, v: Rows) -> tirx.PrimFunc:
    """Attention of every row of each sequence to the rows of the same.

    Arguments: q, k and v float32 ``[m, stride]``; ``sequence_starts`` int32 ``[sequences + 1]``; the result
    ``[m, heads * head_dim]``.
    """
    group, dim, window = shape.group, shape.head_dim, shape.window
    chunk_rows = max(1, CHUNK_ROWS // group)

    def body(rows: Buffer, keys: Buffer, values: Buffer, sequence_starts: Buffer, out: Buffer) -> None:
        num_rows, num_sequences = rows.shape[0], sequence_starts.shape[0] - 1
        num_chunks = (num_rows + (chunk_rows - 1)) // chunk_rows
        with T.parallel(num_chunks * shape.kv_heads) as item:
            chunk, kv_head = item // shape.kv_heads, tirx.floormod(item, shape.kv_heads)
            first, last = Vector("int32", 1), Vector("int32", 1)
            begin, length, position = (Vector("int32", 1) for _ in range(3))
            state = OnlineSoftmax(
                isa, num_rows=chunk_rows, group=group, dim=dim, value_dim=dim, scale=shape.scale
            )

            def load_block(start: Expr) -> None:
                """Keys, turned, and values from ``start`` on; past the sequence's end its last ones again."""
                with T.serial(KEYS) as index:
                    row = Vector("int32", 1)
                    row.set(begin.value + tirx.min(start + index, length.value - 1))
                    for column, width in vectors(dim, isa.lanes):
                        key = Vector("float32", width)
                        key.set(load_rows(keys, k, row.value, kv_head * dim + column, width))
                        for lane in range(width):
                            store(state.keys, (column + lane, index), key.lane(lane))
                        value = load_rows(values, v, row.value, kv_head * dim + column, width)
                        store(state.values, (index, column), value, width)

            def seen(start: Expr, row: Expr, key: Expr) -> tirx.Expr:
                places = tirx.Ramp(start + key, 1, isa.lanes)
                own = position.value + row
                end = own + 1 if shape.causal else length.value
                if window and not shape.causal:
                    end = tirx.min(end, own + window)
                visible = places < broadcast(end, isa.lanes)
                if window:
                    visible = tirx.And(visible, places > broadcast(own - window, isa.lanes))
                return visible

            with T.serial(num_sequences) as sequence:
                first.set(tirx.max(load(sequence_starts, (sequence,)), cast("int32", 1, chunk * chunk_rows)))
                last.set(
                    tirx.min(
                        load(sequence_starts, (sequence + 1,)), cast("int32", 1, (chunk + 1) * chunk_rows)
                    )
                )
                with T.If(first.value < last.value), T.Then():
                    count = last.value - first.value
                    begin.set(load(sequence_starts, (sequence,)))
                    length.set(load(sequence_starts, (sequence + 1,)) - begin.value)
                    position.set(first.value - begin.value)
                    lowest, highest = Vector("int32", 1), Vector("int32", 1)
                    lowest.set(tirx.max(position.value - (window - 1), 0) // KEYS if window else T.int32(0))
                    reach = position.value + count
                    if not shape.causal:
                        reach = tirx.min(length.value, reach + (window - 1)) if window else length.value
                    highest.set((reach - 1) // KEYS + 1)
                    state.load_queries(rows, q, first.value, count, kv_head * group)
                    with T.serial(highest.value - lowest.value) as index:
                        start = Vector("int32", 1)
                        start.set((lowest.value + index) * KEYS)
                        load_block(start.value)
                        state.add_block(
                            count,
                            tirx.min(length.value - start.value, KEYS),
                            lambda row, key: seen(start.value, row, key),
                        )
                    state.store_results(out, first.value, count, kv_head * group)

    m, bounds = symbol("m"), symbol("bounds")
    arguments = [
        ("q", (m, q.stride), "float32"),
        ("k", (m, k.stride), "float32"),
        ("v", (m, v.stride), "float32"),
        ("sequence_starts", (bounds,), "int32"),
        ("out", (m, shape.heads * dim), "float32"),
    ]
    return kernel(name, arguments, body)
