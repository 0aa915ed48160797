"""Attention within whole sequences that lie side by side, both ways or to what came before, without pages.

The batch's rows are cut into chunks; a worker takes one chunk for one KV head and goes through the sequences
in it. Keys and values are rows of the batch too. Pieces begin at multiples of :data:`.online_softmax.PIECE`
of a sequence's own positions, so what one of its rows computes does not depend on what lies beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from .attention_tiles import Emit, Walk
from .isa import Isa
from .online_softmax import KEYS, PIECE, OnlineSoftmax
from .rows import Rows, load_rows, vectors
from .script import Buffer, Expr, T, Vector, broadcast, cast, kernel, load, store, symbol

__all__ = ["RaggedShape", "ragged_attention"]

QUERIES = 128
"""Queries that a worker takes at a time, about; the heads that share keys and values are among them."""


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
    chunk_rows = max(1, QUERIES // group)

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

            block_keys = T.alloc_buffer((dim, KEYS), "float32")
            block_values = T.alloc_buffer((KEYS, dim), "float32")

            def load_block(buffer: Buffer, view: Rows, start: Expr, turned: bool) -> None:
                """Keys, turned, or values from ``start`` on; past the sequence's end its last ones again."""
                with T.serial(KEYS) as index:
                    row = Vector("int32", 1)
                    row.set(begin.value + tirx.min(start + index, length.value - 1))
                    for column, width in vectors(dim, isa.lanes):
                        value = Vector("float32", width)
                        value.set(load_rows(buffer, view, row.value, kv_head * dim + column, width))
                        if not turned:
                            store(block_values, (index, column), value.value, width)
                            continue
                        for lane in range(width):
                            store(block_keys, (column + lane, index), value.lane(lane))

            def seen(start: Expr, row: Expr) -> tirx.Expr:
                places = tirx.Ramp(start, 1, isa.lanes)
                own = position.value + row
                end = own + 1 if shape.causal else length.value
                if window and not shape.causal:
                    end = tirx.min(end, own + window)
                visible = places < broadcast(end, isa.lanes)
                if window:
                    visible = tirx.And(visible, places > broadcast(own - window, isa.lanes))
                return visible

            def keys_from(start: int, num_vectors: int) -> Walk:
                def walk(emit: Emit) -> None:
                    with T.serial(dim) as column:
                        places = [(column, (start + vector) * isa.lanes) for vector in range(num_vectors)]
                        emit(column, [load(block_keys, place, isa.lanes) for place in places])

                return walk

            def add_piece(piece: Expr, start: Expr, end: Expr, count: Expr) -> None:
                """Make the state's sums those of the blocks from ``start`` to before ``end`` of a piece."""
                height = state.height
                num_tiles = (count * group + (height - 1)) // height
                with T.serial(end - start) as index:
                    load_block(keys, k, (piece + start + index) * KEYS, turned=True)
                    with T.serial(num_tiles) as tile:
                        state.score(tile * height, height, start + index, keys_from)
                with T.serial(count * group) as query:
                    state.weigh(query, start, end, lambda key: seen(piece * KEYS + key, query // group))
                    state.sums.clear((query,))
                with T.serial(end - start) as index:
                    first_key = (start + index) * KEYS
                    load_block(values, v, piece * KEYS + first_key, turned=False)
                    num_keys = tirx.min(length.value - piece * KEYS - first_key, KEYS)

                    def values_of(columns: list[tuple[int, int]]) -> Walk:
                        def walk(emit: Emit) -> None:
                            with T.serial(num_keys) as key:
                                places = [((key, column), width) for column, width in columns]
                                emit(first_key + key, [load(block_values, *place) for place in places])

                        return walk

                    with T.serial(num_tiles) as tile:
                        columns = vectors(dim, isa.lanes)
                        state.add_values(tile * height, height, columns, values_of, anew=False)

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
                    with T.serial(count * group) as query:
                        state.merged.begin((query,))
                    first_piece = lowest.value // (PIECE // KEYS)
                    with T.serial((highest.value - 1) // (PIECE // KEYS) + 1 - first_piece) as index:
                        piece = Vector("int32", 1)
                        piece.set((first_piece + index) * (PIECE // KEYS))
                        add_piece(
                            piece.value,
                            tirx.max(lowest.value - piece.value, 0),
                            tirx.min(highest.value - piece.value, PIECE // KEYS),
                            count,
                        )
                        with T.serial(count * group) as query:
                            state.merged.merge((query,), state.sums, (query,))
                    with T.serial(count) as row, T.serial(group) as member:
                        column = (kv_head * group + member) * dim
                        state.merged.store_result((row * group + member,), out, first.value + row, column)

    m, bounds = symbol("m"), symbol("bounds")
    arguments = [
        ("q", (m, q.stride), "float32"),
        ("k", (m, k.stride), "float32"),
        ("v", (m, v.stride), "float32"),
        ("sequence_starts", (bounds,), "int32"),
        ("out", (m, shape.heads * dim), "float32"),
    ]
    return kernel(name, arguments, body)
