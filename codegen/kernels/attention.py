"""Causal attention over a paged KV cache, for any mixture of prefill and decode.

A step's rows are cut into runs of one sequence each, and its work into tasks: a run, or where a step has few
rows, one piece of the context for a run (:mod:`.online_softmax`), so that a single long sequence keeps every
core busy. A worker takes a task for heads of one KV head. A run of one row, which is what decodes, reads keys
and values from their pages; for longer ones a block at a time is converted to float32 in scratch, and then
serves every query of the run. What one query computes depends on its own position alone: pieces and blocks
start at multiples of their lengths, and pieces are merged in ascending order, whoever computed them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx

from .attention_plan import Plan, Task
from .attention_tiles import Emit, Walk
from .cache import CachedHeads, CodedElement, FloatElement
from .isa import DotsBfloat16, Isa
from .online_softmax import KEYS, PIECE, OnlineSoftmax, Sums
from .rows import Rows, vectors
from .script import Buffer, Expr, T, Vector, broadcast, cast, kernel, load, store, symbol

__all__ = ["KEYS", "AttentionShape", "paged_attention"]

QUERIES = 128
"""Queries of a run, about: enough that converting keys and values costs little beside their products."""

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

    @property
    def run_rows(self) -> int:
        """The most rows of a run."""
        return max(1, QUERIES // self.heads_at_once)

    def goes_in_pairs(self, isa: Isa) -> bool:
        """Whether queries and weights are rounded to bfloat16, as keys and values are, to multiply pairs."""
        return (
            isinstance(isa, DotsBfloat16)
            and isinstance(self.element, FloatElement)
            and self.element.is_paired
            and not self.values_of_keys
            and self.value_dim % isa.lanes == 0
            and self.page_size % isa.lanes == 0
        )


_KeysFrom: TypeAlias = "Callable[[int, int], Walk]"
"""Walks the keys of a block in so many vectors from the one that comes first."""

_ValuesOf: TypeAlias = "Callable[[Expr, list[tuple[int, int]]], Walk]"
"""Walks so many values of a block, in these columns."""


@dataclass(frozen=True)
class _Seen:
    """What a run's queries see of a piece, whose keys are those from ``start`` on.

    The first block that one of them sees is ``begin``; ``seen_to`` gives how many keys a tile of queries
    sees, by its first query.
    """

    start: Expr
    begin: Expr
    num_queries: Expr
    seen_to: Callable[[Expr], tirx.Expr]

    @property
    def num_blocks(self) -> Expr:
        """Blocks of keys that the last of the queries sees."""
        return (self.seen_to(self.num_queries - 1) + (KEYS - 1)) // KEYS - self.begin


def paged_attention(isa: Isa, name: str, shape: AttentionShape, q: Rows) -> tirx.PrimFunc:
    """Attention of each sequence's newest tokens over its pages.

    Arguments: q float32 ``[m, q.stride]``; the arrays of both caches as :mod:`.cache` lays them;
    ``sequence_starts`` int32 ``[sequences + 1]``, ``context_lengths`` int32 ``[sequences]``, ``page_table``
    int32 ``[sequences, pages_per_sequence]``; sinks float32 ``[heads]`` if there are any; the result
    ``[m, heads * value_dim]``.
    """
    heads, value_dim = shape.heads_at_once, shape.value_dim
    num_parts = shape.heads // heads

    caches = [shape.keys] if shape.values_of_keys else [shape.keys, shape.values]
    num_key_arrays, num_arrays = len(shape.keys.parts), sum(len(cache.parts) for cache in caches)

    def body(rows: Buffer, *rest: Buffer) -> None:
        keys, values = rest[:num_key_arrays], rest[num_key_arrays:num_arrays]
        *described, out = rest[num_arrays:]
        batch, sinks = described[:3], described[3:]
        plan = Plan.of_step(shape.page_size, shape.window, shape.run_rows, rows, *batch)
        records = plan.records(shape.heads, Sums.width_of_record(isa, value_dim))
        partial = Sums.records(isa, value_dim, records)

        with T.parallel(plan.num_tasks * num_parts) as item:
            # Neighbours have the same heads: workers that share these evenly share the work evenly.
            task = plan.task(tirx.floormod(item, plan.num_tasks))
            first_head = item // plan.num_tasks * heads
            worker = _Worker(isa, shape, keys, values, batch[2], task, first_head)
            state = worker.state
            num_queries = task.count * heads
            following = tirx.min(item + 1, plan.num_tasks * num_parts - 1)
            worker.prefetch_task(
                plan.task(tirx.floormod(following, plan.num_tasks)), following // plan.num_tasks * heads
            )
            state.load_queries(rows, q, task.first, task.count, first_head)
            with T.If(tirx.Not(plan.is_split)), T.Then(), T.serial(num_queries) as query:
                sink = load(sinks[0], first_head + tirx.floormod(query, heads)) if sinks else None
                state.merged.begin((query,), sink)
            with T.serial(task.end - task.piece) as index:
                worker.add_piece(task.piece + index)
                with T.serial(num_queries) as query, T.If(plan.is_split):
                    with T.Then():
                        head = first_head + tirx.floormod(query, heads)
                        place = (task.first + query // heads, task.piece, head)
                        partial.copy(place, state.sums, (query,))
                    with T.Else():
                        state.merged.merge((query,), state.sums, (query,))
            with T.If(tirx.Not(plan.is_split)), T.Then(), T.serial(num_queries) as query:
                column = (first_head + tirx.floormod(query, heads)) * value_dim
                state.merged.store_result((query,), out, task.first + query // heads, column)

        with T.If(plan.is_split), T.Then(), T.parallel(plan.num_rows * shape.heads) as item:
            row, head = item // shape.heads, tirx.floormod(item, shape.heads)
            merged = Sums.scratch(isa, value_dim, 1)
            merged.begin((0,), load(sinks[0], head) if sinks else None)
            begin, end = plan.pieces_of(row)
            with T.serial(end - begin) as index:
                merged.merge((0,), partial, (row, begin + index, head))
            merged.store_result((0,), out, row, head * value_dim)

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
    return kernel(name, arguments, body, helpers=isa.helpers if shape.goes_in_pairs(isa) else "")


class _Worker:
    """One task for the heads from ``first_head`` on, made within the loop over tasks."""

    def __init__(
        self,
        isa: Isa,
        shape: AttentionShape,
        keys: Sequence[Buffer],
        values: Sequence[Buffer],
        page_table: Buffer,
        task: Task,
        first_head: Expr,
    ) -> None:
        self._isa, self._shape, self._keys, self._values = isa, shape, keys, values
        self._page_table, self._task = page_table, task
        self._heads, self._kv_head = shape.heads_at_once, first_head // shape.group
        self._slopes = _slopes_from(first_head, shape) if shape.slopes else None
        self.state = OnlineSoftmax(
            isa,
            num_rows=shape.run_rows,
            group=shape.heads_at_once,
            dim=shape.head_dim,
            value_dim=shape.value_dim,
            scale=shape.scale,
            soft_cap=shape.soft_cap,
            in_pairs=shape.goes_in_pairs(isa),
        )
        if shape.goes_in_pairs(isa):
            return
        self._block_keys = T.alloc_buffer((shape.head_dim, KEYS), "float32")
        self._block_values = T.alloc_buffer((KEYS, shape.value_dim), "float32")

    def prefetch_task(self, task: Task, first_head: Expr) -> None:
        """Ask for the first keys of the task that comes next, whose head is that of ``first_head``."""
        other = copy(self)
        other._task, other._kv_head = task, first_head // self._shape.group
        begin = tirx.max(task.piece * PIECE, task.position - (self._shape.window - 1))
        other._prefetch_keys(begin // KEYS * KEYS if self._shape.window else task.piece * PIECE)

    def add_piece(self, piece: Expr) -> None:
        """Make the state's sums those of a piece."""
        height = self.state.height
        start, begin, num_queries = (Vector("int32", 1) for _ in range(3))
        start.set(piece * PIECE)
        earliest = tirx.max(self._task.position - (self._shape.window - 1), start.value)
        begin.set((earliest - start.value) // KEYS if self._shape.window else T.int32(0))
        num_queries.set(self._task.count * self._heads)

        def seen_to(top: Expr) -> tirx.Expr:
            """How many keys of the piece come no later than the last row of a tile of queries."""
            row = tirx.min((top + (height - 1)) // self._heads, self._task.count - 1)
            return tirx.max(tirx.min(self._task.position + row + 1 - start.value, PIECE), 0)

        self._prefetch_values(start.value + begin.value * KEYS)
        seen = _Seen(start.value, begin.value, num_queries.value, seen_to)
        self._choose(
            lambda: self._score_pairs(seen),
            lambda: self._score_row(start.value, begin.value, seen_to(0)),
            lambda: self._score_run(seen),
        )
        with T.serial(num_queries.value) as query:
            self._weigh(query, start.value, begin.value, seen_to(query // height * height))
        self._choose(
            lambda: self._add_pairs(seen),
            lambda: self._add_values_to_row(start.value, begin.value, seen_to(0)),
            lambda: self._add_values_to_run(seen),
        )

    def _choose(
        self, of_pairs: Callable[[], None], of_row: Callable[[], None], of_run: Callable[[], None]
    ) -> None:
        """Do one or the other, by whether it goes in pairs, or the task has a single row."""
        if self._shape.goes_in_pairs(self._isa):
            of_pairs()
            return
        if self._shape.values_of_keys or self._shape.page_size % self._isa.lanes:
            of_run()
            return
        with T.If(tirx.EQ(self._task.count, 1)):
            with T.Then():
                of_row()
            with T.Else():
                of_run()

    def _weigh(self, query: Expr, start: Expr, begin: Expr, num_keys: Expr) -> None:
        """Weights of a query that ``num_keys`` of the piece come no later than."""
        lanes, window = self._isa.lanes, self._shape.window
        own, member = self._task.position + query // self._heads, tirx.floormod(query, self._heads)

        def seen(key: Expr) -> tirx.Expr:
            places = tirx.Ramp(start + key, 1, lanes)
            visible = places <= broadcast(own, lanes)
            if window:
                visible = tirx.And(visible, places > broadcast(own - window, lanes))
            return visible

        def fall(key: Expr) -> tirx.Expr:
            assert self._slopes is not None
            distance = tirx.Ramp(start + key, 1, lanes) - broadcast(own, lanes)
            return broadcast(load(self._slopes, member), lanes) * cast("float32", lanes, distance)

        end = tirx.max((num_keys + (KEYS - 1)) // KEYS, begin)
        self.state.weigh(query, begin, end, seen, fall if self._slopes is not None else None)

    def _place(self, key: Expr) -> tuple[tirx.Expr, tirx.Expr]:
        """Page and offset of a key; what lies behind the context has those of the last page."""
        page, offset = Vector("int32", 1), Vector("int32", 1)
        number = tirx.min(key // self._shape.page_size, self._task.last_page)
        page.set(load(self._page_table, (self._task.sequence, number)))
        offset.set(tirx.floormod(key, self._shape.page_size))
        return page.value, offset.value

    def _prefetch_keys(self, first_key: Expr) -> None:
        """Ask for a block of keys."""
        stretch = min(KEYS, self._shape.page_size)
        with T.serial(KEYS // stretch) as part:
            place = self._place(first_key + part * stretch)
            self._shape.keys.prefetch(self._keys, self._kv_head, place, stretch)

    def _prefetch_values(self, first_key: Expr) -> None:
        """Ask for a block of values that have a cache."""
        if self._shape.values_of_keys:
            return
        stretch = min(KEYS, self._shape.page_size)
        with T.serial(KEYS // stretch) as part:
            place = self._place(first_key + part * stretch)
            self._shape.values.prefetch(self._values, self._kv_head, place, stretch)

    @property
    def _tiles_of_row(self) -> list[tuple[int, int]]:
        """The first head and the height of each tile of one row."""
        height = self.state.height
        return [(top, min(height, self._heads - top)) for top in range(0, self._heads, height)]

    def _score_row(self, start: Expr, begin: Expr, num_keys: Expr) -> None:
        """Scores of one row with keys that come from their pages."""
        lanes = self._isa.lanes
        with T.serial((num_keys + (KEYS - 1)) // KEYS - begin) as index:
            first_key = start + (begin + index) * KEYS
            self._prefetch_keys(first_key + KEYS)

            def keys_from(first: int, count: int) -> Walk:
                own = [first_key + (first + vector) * lanes for vector in range(count)]

                def walk(emit: Emit) -> None:
                    places = [self._place(key) for key in own]
                    self._shape.keys.read_keys(self._keys, self._kv_head, places, lanes, emit)

                return walk

            for top, rows in self._tiles_of_row:
                self.state.score(top, rows, begin + index, keys_from)

    def _add_values_to_row(self, start: Expr, begin: Expr, num_keys: Expr) -> None:
        """Values for one row, which come from their pages."""
        first, stretch = begin * KEYS, min(KEYS, self._shape.page_size)

        def values_of(columns: list[tuple[int, int]]) -> Walk:
            def walk(emit: Emit) -> None:
                with T.serial((num_keys - first + (stretch - 1)) // stretch) as index:
                    key = first + index * stretch
                    page, inside = self._place(start + key)
                    ahead = self._place(start + key + KEYS)
                    self._shape.values.prefetch(self._values, self._kv_head, ahead, stretch)
                    with T.serial(tirx.min(num_keys - key, stretch)) as offset:
                        place, read = (page, inside + offset), self._shape.values.read_value
                        emit(key + offset, read(self._values, self._kv_head, place, columns))

            return walk

        for top, rows in self._tiles_of_row:
            columns = self._shape.values.columns(self._isa.lanes)
            self.state.add_values(top, rows, columns, values_of, anew=True)

    def _score_blocks(self, seen: _Seen, keys_of: Callable[[Expr], _KeysFrom]) -> None:
        """Scores of any number of rows, block by block of keys, in tiles, each of which goes as far as the
        last of its rows sees; ``keys_of`` a block are what tiles read them by.
        """
        height = self.state.height
        with T.serial(seen.num_blocks) as index:
            block = seen.begin + index
            self._prefetch_keys(seen.start + (block + 1) * KEYS)
            keys_from = keys_of(block)
            with T.serial((seen.num_queries + (height - 1)) // height) as tile:
                is_seen = seen.seen_to(tile * height) > block * KEYS
                with T.If(is_seen), T.Then():
                    self.state.score(tile * height, height, block, keys_from)

    def _add_blocks(
        self, seen: _Seen, columns: list[tuple[int, int]], values_of: Callable[[Expr], _ValuesOf]
    ) -> None:
        """Values for any number of rows, likewise; ``values_of`` a block, by its first key, gives those of so
        many keys.
        """
        height = self.state.height
        with T.serial(seen.num_queries) as query:
            self.state.sums.clear((query,))
        with T.serial(seen.num_blocks) as index:
            first_key = (seen.begin + index) * KEYS
            self._prefetch_values(seen.start + first_key + KEYS)
            of_block = values_of(first_key)
            with T.serial((seen.num_queries + (height - 1)) // height) as tile:
                num_keys = tirx.min(seen.seen_to(tile * height) - first_key, KEYS)

                def walk_of(columns: list[tuple[int, int]]) -> Walk:
                    return of_block(num_keys, columns)

                with T.If(num_keys > 0), T.Then():
                    self.state.add_values(tile * height, height, columns, walk_of, anew=False)

    def _score_pairs(self, seen: _Seen) -> None:
        """Scores with keys from their pages in pairs of columns."""
        lanes = self._isa.lanes

        def keys_of(block: Expr) -> _KeysFrom:
            def keys_from(first: int, num_vectors: int) -> Walk:
                def walk(emit: Emit) -> None:
                    first_key = seen.start + block * KEYS + first * lanes
                    places = [self._place(first_key + vector * lanes) for vector in range(num_vectors)]
                    with T.serial(-(-self._shape.head_dim // 2)) as pair:
                        read = self._shape.keys.read_pairs
                        emit(pair, read(self._keys, self._kv_head, pair, places, lanes))

                return walk

            return keys_from

        self._score_blocks(seen, keys_of)

    def _add_pairs(self, seen: _Seen) -> None:
        """Values that come from their pages in pairs of positions.

        The second of a pair that no row of a tile sees may be anything, infinite even: zeros take its place.
        """
        lanes, stretch = self._isa.lanes, min(KEYS, self._shape.page_size)

        def values_of(first_key: Expr) -> _ValuesOf:
            def of_block(num_keys: Expr, columns: list[tuple[int, int]]) -> Walk:
                def read(page: Expr, pair: Expr) -> list[tirx.Expr]:
                    places = [(page, column) for column, _ in columns]
                    return self._shape.values.read_pairs(self._values, self._kv_head, pair, places, lanes)

                def walk(emit: Emit) -> None:
                    with T.serial((num_keys + (stretch - 1)) // stretch) as part:
                        page, inside = self._place(seen.start + first_key + part * stretch)
                        first_pair = (first_key + part * stretch) // 2
                        with T.serial(tirx.min(num_keys - part * stretch, stretch) // 2) as pair:
                            emit(first_pair + pair, read(page, inside // 2 + pair))
                    with T.If(tirx.EQ(tirx.floormod(num_keys, 2), 1)), T.Then():
                        page, inside = self._place(seen.start + first_key + num_keys - 1)
                        low = broadcast(T.int32(0xFFFF), lanes)
                        words = [T.bitwise_and(word, low) for word in read(page, inside // 2)]
                        emit((first_key + num_keys) // 2, words)

                return walk

            return of_block

        self._add_blocks(seen, vectors(self._shape.value_dim, lanes), values_of)

    def _score_run(self, seen: _Seen) -> None:
        """Scores with keys of a block converted to float32."""
        lanes = self._isa.lanes

        def keys_of(block: Expr) -> _KeysFrom:
            self._load_keys(seen.start + block * KEYS)

            def keys_from(first: int, num_vectors: int) -> Walk:
                def walk(emit: Emit) -> None:
                    with T.serial(self._shape.head_dim) as column:
                        places = [(column, (first + vector) * lanes) for vector in range(num_vectors)]
                        emit(column, [load(self._block_keys, place, lanes) for place in places])

                return walk

            return keys_from

        self._score_blocks(seen, keys_of)

    def _add_values_to_run(self, seen: _Seen) -> None:
        """Values of a block likewise."""

        def values_of(first_key: Expr) -> _ValuesOf:
            self._load_values(seen.start + first_key)

            def of_block(num_keys: Expr, columns: list[tuple[int, int]]) -> Walk:
                def walk(emit: Emit) -> None:
                    with T.serial(num_keys) as key:
                        places = [((key, column), width) for column, width in columns]
                        emit(first_key + key, [load(self._block_values, *place) for place in places])

                return walk

            return of_block

        self._add_blocks(seen, vectors(self._shape.value_dim, self._isa.lanes), values_of)

    def _load_keys(self, first_key: Expr) -> None:
        """Convert a block's keys."""
        stretch = min(KEYS, self._shape.page_size)  # neighbouring keys of a block that are in one page
        lanes = min(self._isa.lanes, stretch)
        with T.serial(KEYS // stretch) as index:
            page, inside = self._place(first_key + index * stretch)
            parts = range(0, stretch, lanes)

            def take(column: Expr, vectors: Sequence[tirx.Expr]) -> None:
                for part, value in zip(parts, vectors, strict=True):
                    store(self._block_keys, (column, index * stretch + part), value, lanes)

            places = [(page, inside + part) for part in parts]
            self._shape.keys.read_keys(self._keys, self._kv_head, places, lanes, take)

    def _load_values(self, first_key: Expr) -> None:
        """Convert a block's values, or turn those that are keys."""
        if self._shape.values_of_keys:
            self._load_keys(first_key)
            with T.serial(KEYS) as key, T.serial(self._shape.value_dim) as column:
                store(self._block_values, (key, column), load(self._block_keys, (column, key)))
            return
        stretch = min(KEYS, self._shape.page_size)
        columns = self._shape.values.columns(self._isa.lanes)
        with T.serial(KEYS // stretch) as index:
            page, inside = self._place(first_key + index * stretch)
            with T.serial(stretch) as offset:
                place = page, inside + offset
                read = self._shape.values.read_value(self._values, self._kv_head, place, columns)
                for (column, width), value in zip(columns, read, strict=True):
                    store(self._block_values, (index * stretch + offset, column), value, width)


def _slopes_from(first_head: Expr, shape: AttentionShape) -> Buffer:
    """The slopes of a worker's heads, in scratch."""
    count = shape.heads_at_once
    slopes = T.alloc_buffer((count,), "float32")
    for start in range(0, shape.heads, count):
        with T.If(first_head == start), T.Then():
            for member, slope in enumerate(shape.slopes[start : start + count]):
                store(slopes, member, T.float32(slope))
    return slopes
