"""Register tiles of attention: a few queries with a few vectors of keys, or of values.

Whoever calls walks the keys or the values and says where they are: in pages, or converted in scratch. What a
query sums up is the same either way, in the same order: columns ascending for a score, keys ascending for a
value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tvm import tirx

from .isa import Isa, fma
from .script import Expr, T, Vector, broadcast

__all__ = ["Emit", "Walk", "add_values", "score_keys"]

Emit: TypeAlias = "Callable[[Expr, Sequence[tirx.Expr]], None]"
"""Takes a column and vectors of the keys' elements in it, or a key and vectors of its value's elements."""

Walk: TypeAlias = "Callable[[Emit], None]"
"""Emits loops that go over columns or keys, in ascending order, and calls what it is given within them."""


def score_keys(
    isa: Isa,
    height: int,
    num_vectors: int,
    walk: Walk,
    query: Callable[[int, Expr], tirx.Expr],
    emit: Callable[[int, int, tirx.Expr], None],
) -> None:
    """Products of ``height`` queries with the keys in ``num_vectors`` vectors.

    ``query(row, column)`` is an element of a query; the result is ``emit(row, vector, scores)``.
    """
    lanes = isa.lanes
    scores = [[Vector("float32", lanes) for _ in range(num_vectors)] for _ in range(height)]
    for row in scores:
        for vector in row:
            vector.fill(T.float32(0))

    def multiply(column: Expr, values: Sequence[tirx.Expr]) -> None:
        keys = [Vector("float32", lanes) for _ in values]
        for key, value in zip(keys, values, strict=True):
            key.set(value)
        for own, sums in enumerate(scores):
            element = Vector("float32", lanes)
            element.fill(query(own, column))
            for key, total in zip(keys, sums, strict=True):
                total.set(fma(lanes, element.value, key.value, total.value))

    walk(multiply)
    for own, sums in enumerate(scores):
        for index, total in enumerate(sums):
            emit(own, index, total.value)


def add_values(
    widths: Sequence[int],
    height: int,
    walk: Walk,
    weight: Callable[[int, Expr], tirx.Expr],
    first: Callable[[int, int], tirx.Expr],
    emit: Callable[[int, int, tirx.Expr], None],
) -> None:
    """Add the walk's values, weighted for each of ``height`` queries, to what was summed up ``first``.

    Values come in vectors of ``widths`` elements. ``weight(row, key)`` is that of a query; ``first(row,
    vector)`` is where a sum starts, and the result is ``emit(row, vector, sum)``.
    """
    parts = [[Vector("float32", width) for width in widths] for _ in range(height)]
    for row, sums in enumerate(parts):
        for index, total in enumerate(sums):
            total.set(first(row, index))

    def multiply(key: Expr, values: Sequence[tirx.Expr]) -> None:
        own = [Vector("float32", width) for width in widths]
        for vector, value in zip(own, values, strict=True):
            vector.set(value)
        for row, sums in enumerate(parts):
            factor = Vector("float32", 1)
            factor.set(weight(row, key))
            for vector, total in zip(own, sums, strict=True):
                spread = broadcast(factor.value, vector.lanes)
                total.set(fma(vector.lanes, spread, vector.value, total.value))

    walk(multiply)
    for row, sums in enumerate(parts):
        for index, total in enumerate(sums):
            emit(row, index, total.value)
