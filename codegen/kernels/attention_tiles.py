"""Register tiles of attention: a few queries with a few vectors of keys, or of values.

Whoever calls walks the keys or the values and says where they are: in pages, or converted in scratch. What a
query sums up is the same either way, in the same order: columns ascending for a score, keys ascending for a
value. Where a machine multiplies pairs of bfloat16, both are walked in pairs, which are int32 lanes here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tvm import tirx

from .isa import DotsBfloat16, Isa, fma
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
    *,
    in_pairs: bool = False,
) -> None:
    """Products of ``height`` queries with the keys in ``num_vectors`` vectors.

    ``query(row, column)`` is an element of a query, or a pair; the result is ``emit(row, vector, scores)``.
    """
    lanes, scalar = isa.lanes, "int32" if in_pairs else "float32"
    scores = [[Vector("float32", lanes) for _ in range(num_vectors)] for _ in range(height)]
    for row in scores:
        for vector in row:
            vector.fill(T.float32(0))

    def multiply(column: Expr, values: Sequence[tirx.Expr]) -> None:
        keys = [Vector(scalar, lanes) for _ in values]
        for key, value in zip(keys, values, strict=True):
            key.set(value)
        for own, sums in enumerate(scores):
            element = Vector(scalar, lanes)
            element.fill(query(own, column))
            for key, total in zip(keys, sums, strict=True):
                total.set(_multiply_add(isa, element.value, key, total.value))

    walk(multiply)
    for own, sums in enumerate(scores):
        for index, total in enumerate(sums):
            emit(own, index, total.value)


def add_values(
    isa: Isa,
    widths: Sequence[int],
    height: int,
    walk: Walk,
    weight: Callable[[int, Expr], tirx.Expr],
    first: Callable[[int, int], tirx.Expr],
    emit: Callable[[int, int, tirx.Expr], None],
    *,
    in_pairs: bool = False,
) -> None:
    """Add the walk's values, weighted for each of ``height`` queries, to what was summed up ``first``.

    Values come in vectors of ``widths`` elements. ``weight(row, key)`` is that of a query, or a pair;
    ``first(row, vector)`` is where a sum starts, and the result is ``emit(row, vector, sum)``.
    """
    scalar = "int32" if in_pairs else "float32"
    parts = [[Vector("float32", width) for width in widths] for _ in range(height)]
    for row, sums in enumerate(parts):
        for index, total in enumerate(sums):
            total.set(first(row, index))

    def multiply(key: Expr, values: Sequence[tirx.Expr]) -> None:
        own = [Vector(scalar, width) for width in widths]
        for vector, value in zip(own, values, strict=True):
            vector.set(value)
        for row, sums in enumerate(parts):
            factor = Vector(scalar, 1)
            factor.set(weight(row, key))
            for vector, total in zip(own, sums, strict=True):
                spread = broadcast(factor.value, vector.lanes)
                total.set(_multiply_add(isa, spread, vector, total.value))

    walk(multiply)
    for row, sums in enumerate(parts):
        for index, total in enumerate(sums):
            emit(row, index, total.value)


def _multiply_add(isa: Isa, factor: tirx.Expr, vector: Vector, total: tirx.Expr) -> tirx.Expr:
    if vector.scalar == "float32":
        return fma(vector.lanes, factor, vector.value, total)
    assert isinstance(isa, DotsBfloat16), "pairs are for machines that multiply them"
    return isa.dot_bfloat16(total, vector.value, factor)
