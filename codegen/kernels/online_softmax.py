"""Attention in blocks of keys with a running maximum and sum.

The method is that of Milakov and Gimelshein (2018) and Dao et al. (2022). A worker's queries keep their state
in scratch that stays in the first cache; a kernel fills in block after block of keys and values, in float32,
each of which then serves every query. What one query computes depends on the order of its own blocks alone,
and a block that it does not see leaves its state as it was, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from .isa import Isa, fma
from .rows import Rows, exponential, hyperbolic_tangent, load_rows, reduce_add, reduce_max, vectors
from .script import Buffer, Expr, T, Vector, broadcast, load, store

__all__ = ["KEYS", "OnlineSoftmax"]

KEYS = 64
"""Keys in a block."""

NEVER = -1e30
"""Where running maxima start: finite, so that differences of maxima are never infinity less infinity."""


class OnlineSoftmax:
    """The state of up to ``num_rows`` queries of each of ``group`` heads that share keys and values.

    Queries and keys are ``dim`` wide, values ``value_dim``. Made within the loop over workers, as scratch of
    each.

    Attributes:
        keys: the block's keys to be filled in, float32 ``[dim, KEYS]``.
        values: its values, ``[KEYS, value_dim]``.
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
    ) -> None:
        """``soft_cap`` bounds the scores, 0.0 does not."""
        self._isa, self._group, self._dim, self._soft_cap = isa, group, dim, soft_cap
        self._value_dim = value_dim
        self._scale = scale / soft_cap if soft_cap else scale
        self._height = isa.attention_rows
        self._size = -(-num_rows * group // self._height) * self._height
        self._strip = min(4, KEYS // isa.lanes)  # vectors of one register tile
        self.keys = T.alloc_buffer((dim, KEYS), "float32")
        self.values = T.alloc_buffer((KEYS, value_dim), "float32")
        self._queries = T.alloc_buffer((self._size, dim), "float32")
        self._weights = T.alloc_buffer((self._size, KEYS), "float32")
        self._totals = T.alloc_buffer((self._size, value_dim), "float32")
        self._maxima = T.alloc_buffer((self._size,), "float32")
        self._sums = T.alloc_buffer((self._size, isa.lanes), "float32")

    def load_queries(
        self, rows: Buffer, view: Rows, first: Expr, count: Expr, head: Expr, sinks: Buffer | None = None
    ) -> None:
        """Begin anew with the heads from ``head`` on of ``count`` rows from ``first`` on.

        With ``sinks`` each head has one more logit, of a key that adds nothing.
        """
        group, dim, lanes = self._group, self._dim, self._isa.lanes
        with T.serial(count) as row, T.serial(group) as member, T.serial(dim) as column:
            value = load_rows(rows, view, first + row, (head + member) * dim + column)
            store(self._queries, (row * group + member, column), value * T.float32(self._scale))
        with T.serial(self._size) as row:
            store(self._sums, (row, 0), broadcast(T.float32(0), lanes), lanes)
            if sinks is not None:  # as if a first key had had this score, and a value of zeros
                store(self._maxima, row, load(sinks, head + tirx.floormod(row, group)))
                store(self._sums, (row, 0), T.float32(1))
            else:
                store(self._maxima, row, T.float32(NEVER))
            with T.serial(self._value_dim) as column:
                store(self._totals, (row, column), T.float32(0))

    def add_block(
        self,
        count: Expr,
        num_keys: Expr,
        seen: Callable[[Expr, Expr], tirx.Expr],
        bias: Callable[[Expr, Expr, Expr], tirx.Expr] | None = None,
    ) -> None:
        """Take the block into the state of ``count`` rows' queries.

        ``num_keys`` of it are there; what lies behind may be anything, infinite even. ``seen(row, key)`` says
        which of the keys from ``key`` on, as many as fit a vector, the query of a row sees; ``bias(row,
        member, key)`` is added to their scores for a member of the group.
        """
        with T.serial((count * self._group + (self._height - 1)) // self._height) as tile:
            self._score(tile * self._height)
            self._weigh(tile * self._height, seen, bias)
            self._add_values(tile * self._height, num_keys)

    def store_results(self, out: Buffer, first: Expr, count: Expr, head: Expr) -> None:
        """Write the rows' results, in the order in which :meth:`load_queries` took their queries."""
        group, dim, lanes = self._group, self._value_dim, self._isa.lanes
        with T.serial(count) as row, T.serial(group) as member:
            inverse = Vector("float32", 1)
            denominator = reduce_add(lanes, load(self._sums, (row * group + member, 0), lanes))
            inverse.set(T.float32(1) / denominator)
            with T.serial(dim) as column:
                place = (first + row, (head + member) * dim + column)
                store(out, place, load(self._totals, (row * group + member, column)) * inverse.value)

    def _score(self, top: Expr) -> None:
        """Products of a tile of queries, from ``top`` on, with the block's keys."""
        lanes, height = self._isa.lanes, self._height
        for tile in range(0, KEYS // lanes, self._strip):
            scores = [[Vector("float32", lanes) for _ in range(self._strip)] for _ in range(height)]
            for vector in (v for row in scores for v in row):
                vector.fill(T.float32(0))
            with T.serial(self._dim) as column:
                parts = [Vector("float32", lanes) for _ in range(self._strip)]
                for index, part in enumerate(parts):
                    part.set(load(self.keys, (column, (tile + index) * lanes), lanes))
                for row in range(height):
                    query = Vector("float32", lanes)
                    query.fill(load(self._queries, (top + row, column)))
                    for index, part in enumerate(parts):
                        scores[row][index].set(fma(lanes, query.value, part.value, scores[row][index].value))
            for row in range(height):
                for index in range(self._strip):
                    place = (top + row, (tile + index) * lanes)
                    store(self._weights, place, scores[row][index].value, lanes)

    def _weigh(
        self,
        top: Expr,
        seen: Callable[[Expr, Expr], tirx.Expr],
        bias: Callable[[Expr, Expr, Expr], tirx.Expr] | None,
    ) -> None:
        """Weights of the block's keys, and what was summed up so far brought to the new maximum."""
        lanes = self._isa.lanes
        with T.serial(self._height) as index:
            place = top + index
            largest = Vector("float32", lanes)
            largest.fill(load(self._maxima, place))
            for step in range(KEYS // lanes):
                row, key = place // self._group, step * lanes
                score = self._capped(load(self._weights, (place, key), lanes))
                if bias is not None:
                    score = score + bias(row, tirx.floormod(place, self._group), key)
                masked = tirx.Select(
                    seen(row, key),
                    score,
                    broadcast(T.float32(float("-inf")), lanes),
                )
                store(self._weights, (place, step * lanes), masked, lanes)
                largest.set(tirx.max(largest.value, load(self._weights, (place, step * lanes), lanes)))
            maximum, factor = Vector("float32", 1), Vector("float32", 1)
            maximum.set(reduce_max(lanes, largest.value))
            factor.set(exponential(self._isa, 1, load(self._maxima, place) - maximum.value))
            store(self._maxima, place, maximum.value)
            total = Vector("float32", lanes)
            total.set(load(self._sums, (place, 0), lanes) * broadcast(factor.value, lanes))
            for step in range(KEYS // lanes):
                score = load(self._weights, (place, step * lanes), lanes)
                weight = Vector("float32", lanes)
                weight.set(exponential(self._isa, lanes, score - broadcast(maximum.value, lanes)))
                store(self._weights, (place, step * lanes), weight.value, lanes)
                total.set(total.value + weight.value)
            store(self._sums, (place, 0), total.value, lanes)
            for column, width in vectors(self._value_dim, lanes):
                scaled = load(self._totals, (place, column), width) * broadcast(factor.value, width)
                store(self._totals, (place, column), scaled, width)

    def _capped(self, score: tirx.Expr) -> tirx.Expr:
        """A vector of scores within the soft cap, by which they were divided beforehand."""
        if not self._soft_cap:
            return score
        lanes = self._isa.lanes
        value = Vector("float32", lanes)
        value.set(score)
        cap = broadcast(T.float32(self._soft_cap), lanes)
        return hyperbolic_tangent(self._isa, lanes, value.value) * cap

    def _add_values(self, top: Expr, count: Expr) -> None:
        """Add the first ``count`` values of the block, weighted, to a tile of queries' totals.

        A weight of 0 would not silence an infinite value behind them.
        """
        height = self._height
        columns = vectors(self._value_dim, self._isa.lanes)
        for tile in range(0, len(columns), self._strip):
            strip = columns[tile : tile + self._strip]
            parts = [[Vector("float32", width) for _, width in strip] for _ in range(height)]
            for row in range(height):
                for (column, width), part in zip(strip, parts[row], strict=True):
                    part.set(load(self._totals, (top + row, column), width))
            with T.serial(count) as key:
                for index, (column, width) in enumerate(strip):
                    value = Vector("float32", width)
                    value.set(load(self.values, (key, column), width))
                    for row in range(height):
                        weight = broadcast(load(self._weights, (top + row, key)), width)
                        parts[row][index].set(fma(width, weight, value.value, parts[row][index].value))
            for row in range(height):
                for (column, width), part in zip(strip, parts[row], strict=True):
                    store(self._totals, (top + row, column), part.value, width)
