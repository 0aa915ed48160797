"""Attention in pieces of the context, each with its own maximum and sum, brought together in order.

The method is that of Milakov and Gimelshein (2018) and Dao et al. (2022). Pieces begin at multiples of
:data:`PIECE` keys, and what a query sums up within one depends on nothing outside it; the pieces are merged
in ascending order. So it makes no difference whether one worker goes through all of them, or several take
some each: every bit is the same. Keys that a query does not see leave its state as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from .attention_tiles import Walk, add_values, score_keys
from .isa import Isa, fma
from .rows import (
    Rows,
    columns,
    exponential,
    hyperbolic_tangent,
    load_rows,
    reduce_add,
    reduce_max,
    to_bfloat16,
)
from .script import Buffer, Expr, T, Vector, broadcast, load, reinterpret, store

__all__ = ["KEYS", "PIECE", "OnlineSoftmax", "Sums"]

KEYS = 64
"""Keys in a block, which is what is brought into the first cache at a time."""

PIECE = 256
"""Keys in a piece, a whole number of blocks."""

NEVER = -1e30
"""Where maxima start: finite, so that differences of maxima are never infinity less infinity."""


@dataclass(frozen=True)
class Sums:
    """Where the state of a query lies: the largest score, sums of weights in lanes, the weighted values.

    Each is a buffer and the index of the first element, which that of the query comes before.
    """

    isa: Isa
    value_dim: int
    maxima: Buffer
    weights: Buffer
    totals: Buffer
    offsets: tuple[int, int, int] = (0, 0, 0)

    def maximum(self, query: Sequence[Expr]) -> tirx.Expr:
        """The largest score."""
        return load(self.maxima, (*query, self.offsets[0]))

    def weight(self, query: Sequence[Expr]) -> tirx.Expr:
        """The sums of weights, one a lane."""
        return load(self.weights, (*query, self.offsets[1]), self.isa.lanes)

    def total(self, query: Sequence[Expr], column: Expr, width: int) -> tirx.Expr:
        """Some of the weighted values."""
        return load(self.totals, (*query, self.offsets[2] + column), width)

    def set_maximum(self, query: Sequence[Expr], value: tirx.Expr) -> None:
        """Assign the largest score."""
        store(self.maxima, (*query, self.offsets[0]), value)

    def set_weight(self, query: Sequence[Expr], value: tirx.Expr) -> None:
        """Assign the sums of weights."""
        store(self.weights, (*query, self.offsets[1]), value, self.isa.lanes)

    def set_total(self, query: Sequence[Expr], column: Expr, width: int, value: tirx.Expr) -> None:
        """Assign some of the weighted values."""
        store(self.totals, (*query, self.offsets[2] + column), value, width)

    @classmethod
    def scratch(cls, isa: Isa, value_dim: int, num_queries: int) -> Sums:
        """Of so many queries, in buffers of their own."""
        sizes = (1, isa.lanes, value_dim)
        return cls(isa, value_dim, *(T.alloc_buffer((num_queries, size), "float32") for size in sizes))

    @classmethod
    def width_of_record(cls, isa: Isa, value_dim: int) -> int:
        """Floats of one query's state where all of it lies together, a whole number of vectors."""
        return -(-value_dim // isa.lanes) * isa.lanes + 2 * isa.lanes

    @classmethod
    def records(cls, isa: Isa, value_dim: int, buffer: Buffer) -> Sums:
        """In a buffer whose last dimension is :meth:`width_of_record`."""
        first = cls.width_of_record(isa, value_dim) - 2 * isa.lanes
        return cls(isa, value_dim, buffer, buffer, buffer, (first + isa.lanes, first, 0))

    def begin(self, query: Sequence[Expr], sink: tirx.Expr | None = None) -> None:
        """Nothing seen so far, or as if a first key had had ``sink`` for a score, and zeros for a value."""
        self.set_weight(query, broadcast(T.float32(0), self.isa.lanes))
        self.set_maximum(query, T.float32(NEVER) if sink is None else sink)
        if sink is not None:
            store(self.weights, (*query, self.offsets[1]), T.float32(1))
        self.clear(query)

    def clear(self, query: Sequence[Expr]) -> None:
        """No weighted values so far."""
        columns(
            self.isa,
            self.value_dim,
            lambda column, width: self.set_total(query, column, width, broadcast(T.float32(0), width)),
        )

    def copy(self, query: Sequence[Expr], other: Sums, theirs: Sequence[Expr]) -> None:
        """Take over what ``other`` has of a query."""
        self.set_maximum(query, other.maximum(theirs))
        self.set_weight(query, other.weight(theirs))
        columns(
            self.isa,
            self.value_dim,
            lambda column, width: self.set_total(query, column, width, other.total(theirs, column, width)),
        )

    def merge(self, query: Sequence[Expr], piece: Sums, theirs: Sequence[Expr]) -> None:
        """Add the next piece of the context, bringing both to the larger maximum."""
        lanes = self.isa.lanes
        maximum, own, added = (Vector("float32", 1) for _ in range(3))
        maximum.set(tirx.max(self.maximum(query), piece.maximum(theirs)))
        own.set(exponential(self.isa, 1, self.maximum(query) - maximum.value))
        added.set(exponential(self.isa, 1, piece.maximum(theirs) - maximum.value))
        self.set_maximum(query, maximum.value)

        def together(width: int, before: tirx.Expr, new: tirx.Expr) -> tirx.Expr:
            scaled = new * broadcast(added.value, width)
            return fma(width, before, broadcast(own.value, width), scaled)

        self.set_weight(query, together(lanes, self.weight(query), piece.weight(theirs)))
        columns(
            self.isa,
            self.value_dim,
            lambda column, width: self.set_total(
                query,
                column,
                width,
                together(width, self.total(query, column, width), piece.total(theirs, column, width)),
            ),
        )

    def store_result(self, query: Sequence[Expr], out: Buffer, row: Expr, first: Expr) -> None:
        """Write the weighted mean to the columns from ``first`` on of a row."""
        inverse = Vector("float32", 1)
        inverse.set(T.float32(1) / reduce_add(self.isa.lanes, self.weight(query)))
        columns(
            self.isa,
            self.value_dim,
            lambda column, width: store(
                out,
                (row, first + column),
                self.total(query, column, width) * broadcast(inverse.value, width),
                width,
            ),
        )


class OnlineSoftmax:
    """Up to ``num_rows`` queries of each of ``group`` heads that share keys and values.

    Queries and keys are ``dim`` wide, values ``value_dim``. Made within the loop over workers, as scratch of
    each. Queries are numbered row by row, the heads of a row side by side.

    Attributes:
        sums: what was summed up of a piece.
        merged: what was summed up of all pieces so far.
    """

    def __init__(
        self,
        isa: Isa,
        *,
        num_rows: int,
        group: int,
        dim: int,
        value_dim: int,
        scale: float,
        soft_cap: float = 0.0,
        in_pairs: bool = False,
    ) -> None:
        """``soft_cap`` bounds the scores, 0.0 does not.

        Where it goes ``in_pairs``, queries and weights are rounded to bfloat16, and keys and values are
        walked in pairs of columns, and of keys.
        """
        self._isa, self._group, self._dim, self._soft_cap = isa, group, dim, soft_cap
        self._value_dim = value_dim
        self._scale = scale / soft_cap if soft_cap else scale
        self.height = isa.attention_rows
        self._size = -(-num_rows * group // self.height) * self.height
        self._strip = min(4, KEYS // isa.lanes)  # vectors of one register tile
        self._in_pairs, self._width = in_pairs, dim + dim % 2 if in_pairs else dim
        element = "uint16" if in_pairs else "float32"
        self._queries = T.alloc_buffer((self._size, self._width), element)
        self._scores = T.alloc_buffer((self._size, PIECE), "float32")
        self._weights = T.alloc_buffer((self._size, PIECE), element) if in_pairs else self._scores
        self.sums = Sums.scratch(isa, value_dim, self._size)
        self.merged = Sums.scratch(isa, value_dim, self._size)

    def load_queries(self, rows: Buffer, view: Rows, first: Expr, count: Expr, head: Expr) -> None:
        """The heads from ``head`` on of ``count`` rows from ``first`` on, and zeros that fill a tile."""
        group, dim, height = self._group, self._dim, self.height
        scale = T.float32(self._scale)

        def put(query: Expr, column: Expr, width: int, value: tirx.Expr) -> None:
            stored = to_bfloat16(width, value) if self._in_pairs else value
            store(self._queries, (query, column), stored, width)

        with T.serial(count) as row, T.serial(group) as member:

            def take(column: Expr, width: int) -> None:
                value = load_rows(rows, view, first + row, (head + member) * dim + column, width)
                put(row * group + member, column, width, value * broadcast(scale, width))

            columns(self._isa, dim, take)
            if self._width > dim:
                put(row * group + member, dim, 1, T.float32(0))
        num_queries = count * group
        with T.serial(-(-num_queries // height) * height - num_queries) as index:
            columns(
                self._isa,
                self._width,
                lambda column, width: put(num_queries + index, column, width, broadcast(T.float32(0), width)),
            )

    def score(self, top: Expr, height: int, block: Expr, walk: Callable[[int, int], Walk]) -> None:
        """Scores of a tile of queries, from ``top`` on, with the keys of a block of the piece.

        ``walk(first, n)`` goes over the columns of the keys in the n vectors from ``first`` on.
        """
        lanes = self._isa.lanes
        for first in range(0, KEYS // lanes, self._strip):
            score_keys(
                self._isa,
                height,
                self._strip,
                walk(first, self._strip),
                lambda row, column: self._factor(self._queries, top + row, column),
                lambda row, vector, scores, first=first: store(  # type: ignore[misc]
                    self._scores, (top + row, block * KEYS + (first + vector) * lanes), scores, lanes
                ),
                in_pairs=self._in_pairs,
            )

    def weigh(
        self,
        query: Expr,
        first: Expr,
        last: Expr,
        seen: Callable[[Expr], tirx.Expr],
        bias: Callable[[Expr], tirx.Expr] | None = None,
    ) -> None:
        """Weights of the keys in the piece's blocks from ``first`` to before ``last``, which were scored.

        ``seen(key)`` says which of the keys from the piece's ``key``-th on, as many as fit a vector, the
        query sees; ``bias(key)`` is added to their scores.
        """
        lanes = self._isa.lanes
        largest, total, maximum = Vector("float32", lanes), Vector("float32", lanes), Vector("float32", 1)
        steps = KEYS // lanes // self._strip  # so many strips are a block

        def each_vector(emit: Callable[[Expr], None]) -> None:
            with T.serial((last - first) * steps) as index:
                for vector in range(self._strip):
                    emit(first * KEYS + (index * self._strip + vector) * lanes)

        def mask(key: Expr) -> None:
            score = self._capped(load(self._scores, (query, key), lanes))
            if bias is not None:
                score = score + bias(key)
            masked = Vector("float32", lanes)
            masked.set(tirx.Select(seen(key), score, broadcast(T.float32(float("-inf")), lanes)))
            store(self._scores, (query, key), masked.value, lanes)
            largest.set(tirx.max(largest.value, masked.value))

        def to_weights(key: Expr) -> None:
            below = load(self._scores, (query, key), lanes) - broadcast(maximum.value, lanes)
            weight = Vector("float32", lanes)
            weight.set(exponential(self._isa, lanes, below))
            stored = to_bfloat16(lanes, weight.value) if self._in_pairs else weight.value
            store(self._weights, (query, key), stored, lanes)
            total.set(total.value + weight.value)

        largest.fill(T.float32(NEVER))
        each_vector(mask)
        maximum.set(reduce_max(lanes, largest.value))
        total.fill(T.float32(0))
        each_vector(to_weights)
        self.sums.set_maximum((query,), maximum.value)
        self.sums.set_weight((query,), total.value)

    def add_values(
        self,
        top: Expr,
        height: int,
        columns: list[tuple[int, int]],
        walk: Callable[[list[tuple[int, int]]], Walk],
        *,
        anew: bool,
    ) -> None:
        """Add values, weighted, to a tile of queries' totals, which are zero before where it is ``anew``.

        ``columns`` are the vectors that make up a value, each with its width; ``walk`` of some of them goes
        over the keys of the piece.
        """
        for start in range(0, len(columns), self._strip):
            strip = columns[start : start + self._strip]
            add_values(
                self._isa,
                [width for _, width in strip],
                height,
                walk(strip),
                lambda row, key: self._factor(self._weights, top + row, key),
                lambda row, index, strip=strip: (  # type: ignore[misc]
                    broadcast(T.float32(0), strip[index][1])
                    if anew
                    else self.sums.total((top + row,), *strip[index])
                ),
                lambda row, index, total, strip=strip: self.sums.set_total(  # type: ignore[misc]
                    (top + row,), strip[index][0], strip[index][1], total
                ),
                in_pairs=self._in_pairs,
            )

    def _factor(self, buffer: Buffer, query: Expr, place: Expr) -> tirx.Expr:
        """What a vector of keys or values is multiplied by: an element, or a pair of them."""
        if self._in_pairs:
            return reinterpret("int32", load(buffer, (query, place * 2), 2))
        return load(buffer, (query, place))

    def _capped(self, score: tirx.Expr) -> tirx.Expr:
        """A vector of scores within the soft cap, by which they were divided beforehand."""
        if not self._soft_cap:
            return score
        lanes = self._isa.lanes
        value = Vector("float32", lanes)
        value.set(score)
        cap = broadcast(T.float32(self._soft_cap), lanes)
        return hyperbolic_tangent(self._isa, lanes, value.value) * cap
