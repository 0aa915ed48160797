"""What the elements of rows are, followed through a graph one by one.

How a computation is written says little: halves or neighbours, tables of one width or twice that, elements
turned in place or joined from parts. What each element of a row is made of says it all. Two things are
followed. What depends on a token's position alone is a number for each element, equal where the elements are.
What is computed from activations by moving, negating, adding, and multiplying once by what depends on the
position is a sum of :class:`Terms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..ir import Graph, Operation, Value

__all__ = ["ONE", "RowElements", "Terms"]

ONE = 0
"""The number of what is multiplied by nothing, in :attr:`Terms.factors`."""

_MOST_TERMS = 2
_MOST_ELEMENTS = 1 << 16
"""Elements of a constant or a parameter, beside rows, that are looked at."""

_ELEMENTWISE = frozenset(
    {"neg", "exp", "log", "cos", "sin", "rsqrt", "square", "add", "sub", "mul", "div", "pow", "maximum"}
    | {"minimum", "cast"}
)

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Terms:
    """Rows of which each element is a sum of a few terms, ``sign * element * factor``.

    All arrays are ``[terms, *row]``: signs -1, 0 (no term) and 1, numbers of the elements of activations, and
    numbers of the factors, elements that follow from the position, or :data:`ONE`.
    """

    signs: Numbers
    elements: Numbers
    factors: Numbers

    def __len__(self) -> int:
        return len(self.signs)

    def moved(self, move: Callable[[Numbers], Numbers]) -> Terms:
        """The same where ``move`` rearranges each row."""
        arrays = (np.stack([move(part) for part in array]) for array in self._arrays)
        return Terms(*arrays)

    @property
    def are_elements(self) -> bool:
        """Whether each is an element of an activation, and nothing else."""
        return len(self) == 1 and bool((self.signs == 1).all() and (self.factors == ONE).all())

    @property
    def _arrays(self) -> tuple[Numbers, Numbers, Numbers]:
        return self.signs, self.elements, self.factors

    def widened(self, count: int) -> Terms:
        """The same with terms that are none behind."""
        missing = ((0, count - len(self)), *[(0, 0)] * (self.signs.ndim - 1))
        return Terms(*(np.pad(array, missing) for array in self._arrays))

    @staticmethod
    def joined(parts: Sequence[Terms], axis: int) -> Terms:
        """Rows side by side along ``axis`` of a row."""
        count = max(map(len, parts))
        wide = [part.widened(count)._arrays for part in parts]
        return Terms(*(np.concatenate(arrays, axis=axis + 1) for arrays in zip(*wide, strict=True)))

    def plus(self, other: Terms, sign: int) -> Terms:
        """The sum with ``sign`` times another, terms that are none last and dropped."""
        arrays = [np.concatenate(pair) for pair in zip(self._arrays, other._arrays, strict=True)]
        arrays[0][len(self) :] *= sign
        order = np.argsort(arrays[0] == 0, axis=0, kind="stable")
        signs, elements, factors = (np.take_along_axis(array, order, axis=0) for array in arrays)
        count = max(1, int((signs != 0).sum(axis=0).max()))
        return Terms(signs[:count], elements[:count], factors[:count])


class RowElements:
    """Says of a graph's values what the elements of their rows, one for each position, are."""

    def __init__(self, graph: Graph, positions: Value) -> None:
        self._producers = graph.producers
        self._parameters = frozenset(graph.parameters)
        self._positions = positions
        self._numbers: dict[Hashable, int] = {"one": ONE}
        self._by_position: dict[Value, Numbers | None] = {}
        self._static: dict[Value, Numbers | None] = {}
        self._terms: dict[Value, Terms] = {}
        self._taken = 0

    # --- what follows from positions

    def by_position(self, value: Value) -> Numbers | None:
        """A number for each element of a row that follows from the position; None where it does not."""
        if value not in self._by_position:
            self._by_position[value] = self._follow(value)
        return self._by_position[value]

    def _follow(self, value: Value) -> Numbers | None:
        if value is self._positions:
            return np.array(self._number("position"), np.int64)
        operation = self._producers.get(value)
        if operation is None or not self.has_rows(value):
            return None
        operands, attributes = operation.operands, operation.attributes
        if operation.operator in ("gather_rows", "embedding"):
            return self._column_numbers(operands[0]) if operands[1] is self._positions else None
        if operation.operator in _ELEMENTWISE:
            rows = [self._beside(operand, value.type.rank) for operand in operands]
            if any(row is None for row in rows):
                return None
            return self._apply((operation.operator, str(attributes.get("to"))), cast("list[Numbers]", rows))
        move = _move(operation)
        if move is None:
            return None
        parts = [self.by_position(operand) for operand in operands]
        return None if any(part is None for part in parts) else move(*cast("list[Numbers]", parts))

    def _beside(self, value: Value, rank: int) -> Numbers | None:
        """An operand of an elementwise operator as its rows have it; what is the same for all is repeated."""
        if self.has_rows(value):
            return self.by_position(value) if value.type.rank == rank else None
        known = self._static_numbers(value)
        return known[0] if known is not None and known.ndim == rank else known

    def _static_numbers(self, value: Value) -> Numbers | None:
        if value not in self._static:
            self._static[value] = self._find_static(value)
        return self._static[value]

    def _find_static(self, value: Value) -> Numbers | None:
        size = math.prod(dim if isinstance(dim, int) else _MOST_ELEMENTS + 1 for dim in value.type.shape)
        if size > _MOST_ELEMENTS:
            return None
        shape = cast("tuple[int, ...]", value.type.shape)
        if value in self._parameters:
            return np.array([self._number((value, i)) for i in range(size)], np.int64).reshape(shape)
        operation = self._producers.get(value)
        if operation is None:
            return None
        if operation.operator == "constant":
            array = np.asarray(operation.attributes["value"])
            numbers = [self._number((array.dtype.name, item.tobytes())) for item in array.reshape(-1)]
            return np.array(numbers, np.int64).reshape(shape)
        parts = [self._static_numbers(operand) for operand in operation.operands]
        if any(part is None for part in parts):
            return None
        arrays = cast("list[Numbers]", parts)
        if operation.operator in _ELEMENTWISE:
            return self._apply((operation.operator, str(operation.attributes.get("to"))), arrays)
        if operation.operator == "reshape":
            return arrays[0].reshape(shape)
        return None

    def _column_numbers(self, table: Value) -> Numbers | None:
        """A number for each column of a table of rows by position; constants' are equal where columns are."""
        operation = self._producers.get(table)
        columns = math.prod(int(dim) for dim in table.type.shape[1:])
        if operation is not None and operation.operator == "constant":
            array = np.asarray(operation.attributes["value"]).reshape(-1, columns)
            found = [self._number(("column", array[:, i].tobytes())) for i in range(columns)]
        elif table in self._parameters and columns <= _MOST_ELEMENTS:
            found = [self._number(("column", table, i)) for i in range(columns)]
        else:
            return None
        return np.array(found, np.int64).reshape([int(dim) for dim in table.type.shape[1:]])

    def _apply(self, operator: Hashable, rows: Sequence[Numbers]) -> Numbers:
        """Numbers of what ``operator`` makes of elements: the same of the same."""
        stacked = np.stack(np.broadcast_arrays(*rows))
        flat = stacked.reshape(len(rows), -1)
        distinct, where = np.unique(flat, axis=1, return_inverse=True)
        made = [self._number((operator, *column)) for column in distinct.T.tolist()]
        return np.array(made, np.int64)[where].reshape(stacked.shape[1:])

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    # --- what is computed from activations

    def terms(self, value: Value) -> Terms:
        """The terms of each element of a row of ``value``; at worst each is itself."""
        if value not in self._terms:
            followed = self._follow_terms(value)
            self._terms[value] = self._opaque(value) if followed is None else followed
        return self._terms[value]

    def _follow_terms(self, value: Value) -> Terms | None:
        operation = self._producers.get(value)
        if operation is None or not all(self.has_rows(operand) for operand in operation.operands):
            return None
        operands = operation.operands
        match operation.operator:
            case "neg":
                known = self.terms(operands[0])
                return Terms(-known.signs, known.elements, known.factors)
            case "add" | "sub":
                if operands[0].type != operands[1].type:
                    return None
                total = self.terms(operands[0]).plus(
                    self.terms(operands[1]), 1 if operation.operator == "add" else -1
                )
                return total if len(total) <= _MOST_TERMS else None
            case "mul":
                return self._product(*operands) or self._product(*operands[::-1])
        move = _move(operation)
        if move is None:
            return None
        if operation.operator == "concat":
            axis = cast(int, operation.attributes["axis"]) - 1
            return Terms.joined([self.terms(operand) for operand in operands], axis)
        return self.terms(operands[0]).moved(move)

    def _product(self, rows: Value, factor: Value) -> Terms | None:
        """``rows`` times what follows from the position, where they were multiplied by nothing else."""
        factors = self.by_position(factor)
        if factors is None or self.by_position(rows) is not None or rows.type.rank != factor.type.rank:
            return None
        known = self.terms(rows)
        shape = known.signs.shape[1:]
        if (known.factors != ONE).any() or np.broadcast_shapes(shape, factors.shape) != shape:
            return None
        wide = np.where(known.signs == 0, ONE, np.broadcast_to(factors, shape)[None])
        return Terms(known.signs, known.elements, wide)

    def _opaque(self, value: Value) -> Terms:
        shape = (1, *(int(dim) for dim in value.type.shape[1:]))
        size = math.prod(shape)
        elements = np.arange(self._taken, self._taken + size, dtype=np.int64).reshape(shape)
        self._taken += size
        return Terms(np.ones(shape, np.int64), elements, np.full(shape, ONE, np.int64))

    def has_rows(self, value: Value) -> bool:
        """Whether there is one row for each token, of numbers of elements."""
        lead, *row = value.type.shape or ("",)
        return lead == self._positions.type.shape[0] and all(isinstance(dim, int) for dim in row)


def _move(operation: Operation) -> Callable[..., Numbers] | None:
    """What an operator that moves elements within rows does to a row, None for another."""
    attributes: Mapping[str, Any] = operation.attributes
    axis = cast(int, attributes.get("axis", 1)) - 1
    match operation.operator:
        case "reshape":
            shape = operation.result.type.shape
            if operation.operands[0].type.shape[:1] != shape[:1]:
                return None
            return lambda row: row.reshape(shape[1:])
        case "transpose" if attributes["axes"][0] == 0:
            return lambda row: row.transpose([axis - 1 for axis in attributes["axes"][1:]])
        case "slice" if axis >= 0:
            taken = slice(attributes["start"], attributes["stop"])
            return lambda row: row[(slice(None),) * axis + (taken,)]
        case "repeat" if axis >= 0:
            return lambda row: np.repeat(row, attributes["times"], axis=axis)
        case "concat" if axis >= 0:
            return lambda *rows: np.concatenate(rows, axis=axis)
    return None
