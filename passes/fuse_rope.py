"""Rotary embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ..ir import Graph, Module, Operation, ScalarType, Value
from .base import Pass, Rewritten
from .rewriting import GraphRewriter, ModuleRewriter
from .row_elements import ONE, RowElements, Terms

__all__ = ["FuseRope"]

_LAST = frozenset({"add", "sub", "concat", "reshape"})
"""The operators whose result may be heads that were turned."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FuseRope(Pass):
    """What turns pairs of each head's elements by angles that follow from the position becomes ``rope``.

    It is recognised by what each element of the result is (:mod:`.row_elements`), not by how that is
    written: ``x * cos + rotate_half(x) * sin``, neighbours as pairs, parts joined again, the first part of
    each head alone, tables that hold each angle once or twice. Cosines and sines are parts of tables that the
    graph has, each angle once. Where pairs turn the other way, sines are negated; where neighbours turn and
    come out parted, as two halves, they are parted before.
    """

    name: ClassVar[str] = "fuse_rope"
    requires: ClassVar[tuple[str, ...]] = ("plain", "fused")
    ensures: ClassVar[str | None] = "fused"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        positions = next((value for value in graph.inputs if value.name == "positions"), None)
        if positions is None:
            return Rewritten(module)
        rows = RowElements(graph, positions)
        rewriter = ModuleRewriter(module)
        tables = _Tables(graph, rows, rewriter.forward)
        found = {
            operation: turn
            for operation in graph.operations
            if operation.operator in _LAST
            and (turn := _find_turn(operation, graph, rows)) is not None
            and all(tables.find(numbers, operation) for numbers in (turn.cosines, turn.sines))
        }
        if not found:
            return Rewritten(module)

        def fuse(operation: Operation, turn: _Turn) -> None:
            cosines, sines = tables.emit(turn.cosines), tables.emit(turn.sines)
            if turn.is_backward:
                sines = tables.emit_negated(turn.sines)
            x, shape = turn.x, operation.result.type.shape
            if x.type.shape != shape:
                x = rewriter.forward.emit("reshape", x, shape=shape)
            operands = _part(rewriter.forward, x) if turn.is_parted else x, cosines, sines
            rewriter.forward.emit(
                "rope", *operands, replaces=operation.result, interleaved=turn.is_interleaved
            )

        rules = {operation: partial(fuse, operation, turn) for operation, turn in found.items()}
        rewriter.forward.apply(rules)
        return Rewritten(rewriter.finish())


@dataclass(frozen=True)
class _Turn:
    """Heads ``x`` whose first pairs turn by the angles whose cosines and sines have these numbers."""

    x: Value
    cosines: tuple[int, ...]
    sines: tuple[int, ...]
    is_interleaved: bool
    is_backward: bool
    is_parted: bool = False


def _find_turn(operation: Operation, graph: Graph, rows: RowElements) -> _Turn | None:
    """What ``operation`` turns, None where it does not."""
    turned = operation.result
    if turned.type.rank != 3 or turned.type.element is not ScalarType.FLOAT32:
        return None
    if not rows.has_rows(turned) or rows.by_position(turned) is not None:
        return None
    terms = rows.terms(turned)
    if len(terms) != 2:
        return None
    for x in _sources(turned, graph, rows):
        elements = rows.terms(x).elements[0].reshape([int(dim) for dim in turned.type.shape[1:]])
        if (turn := _turn_of(terms, x, elements)) is not None:
            return turn
        if elements.shape[1] % 2 == 0:
            parted = elements.reshape(len(elements), -1, 2).swapaxes(1, 2).reshape(elements.shape)
            if (turn := _turn_of(terms, x, parted)) is not None and not turn.is_interleaved:
                return replace(turn, is_parted=True)
    return None


def _size(value: Value) -> int:
    return math.prod(int(dim) for dim in value.type.shape[1:])


def _part(rewriter: GraphRewriter, x: Value) -> Value:
    """Heads with the first of each pair of neighbours in front."""
    tokens, heads, width = x.type.shape
    pairs = rewriter.emit("reshape", x, shape=(tokens, heads, int(width) // 2, 2))
    parted = rewriter.emit("transpose", pairs, axes=(0, 1, 3, 2))
    return rewriter.emit("reshape", parted, shape=(tokens, heads, width))


def _sources(turned: Value, graph: Graph, rows: RowElements) -> Iterator[Value]:
    """Values with as many elements that heads may be a turn of, the nearest first."""
    waiting, seen = [turned], {turned}
    while waiting:
        value = waiting.pop(0)
        if _size(value) == _size(turned) and rows.terms(value).are_elements:
            yield value
            continue
        producer = graph.producers.get(value)
        for operand in producer.operands if producer is not None else ():
            if operand not in seen and rows.has_rows(operand) and rows.by_position(operand) is None:
                seen.add(operand)
                waiting.append(operand)


def _turn_of(terms: Terms, x: Value, elements: Numbers) -> _Turn | None:
    """The turn that ``terms`` are of the ``elements`` of ``x``, None where they are none."""
    is_first = terms.elements[0] == elements
    if not (is_first | ((terms.elements[1] == elements) & (terms.signs[1] != 0))).all():
        return None

    def pick(array: Numbers) -> tuple[Numbers, Numbers]:
        """Of each element's terms that of itself, and the other."""
        return np.where(is_first, array[0], array[1]), np.where(is_first, array[1], array[0])

    own_signs, signs = pick(terms.signs)
    own_factors, factors = pick(terms.factors)
    _, others = pick(terms.elements)
    columns = [own_factors, factors, signs]
    if (own_signs != 1).any() or any((column != column[:1]).any() for column in columns):
        return None
    cosines, sines, directions = (column[0] for column in columns)
    width = int(np.count_nonzero(directions))
    if width % 2 or not directions[:width].all() or (cosines[width:] != ONE).any():
        return None
    for is_interleaved in (False, True):
        first = np.arange(0, width, 2) if is_interleaved else np.arange(width // 2)
        second = first + (1 if is_interleaved else width // 2)
        is_turn = (
            (others[:, first] == elements[:, second]).all()
            and (others[:, second] == elements[:, first]).all()
            and (cosines[first] == cosines[second]).all()
            and (sines[first] == sines[second]).all()
            and (directions[first] == -directions[second]).all()
            and (directions[first] == directions[first[0]]).all()
        )
        if is_turn:
            numbers = [tuple(column[first].tolist()) for column in (cosines, sines)]
            return _Turn(x, numbers[0], numbers[1], is_interleaved, is_backward=bool(directions[0] == 1))
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a table holds numbers: every ``step``-th column from ``start`` on."""

    table: Value
    start: int
    step: int


class _Tables:
    """Values ``[tokens, n]`` that hold wanted elements, cut out of what the graph computes of positions."""

    def __init__(self, graph: Graph, rows: RowElements, rewriter: GraphRewriter) -> None:
        self._graph = graph
        self._rows = rows
        self._rewriter = rewriter
        self._places: dict[tuple[int, ...], _Place | None] = {}
        self._made: dict[tuple[int, ...], Value] = {}
        self._negated: dict[tuple[int, ...], Value] = {}

    def find(self, numbers: tuple[int, ...], user: Operation) -> _Place | None:
        """Where elements of these ``numbers`` are, before ``user``: best a table of them alone."""
        if numbers not in self._places:
            self._places[numbers] = self._search(numbers, user)
        return self._places[numbers]

    def _search(self, numbers: tuple[int, ...], user: Operation) -> _Place | None:
        places: list[tuple[int, int, int, _Place]] = []
        for operation in self._graph.operations:
            if operation is user:
                break
            for value in operation.results:
                if not self._rows.has_rows(value) or value.type.element is not ScalarType.FLOAT32:
                    continue
                row = self._rows.by_position(value)
                if row is not None and (place := _place_in(value, row.reshape(-1), numbers)) is not None:
                    places.append((place.step, row.size, len(places), place))
        return min(places)[-1] if places else None

    def emit(self, numbers: tuple[int, ...]) -> Value:
        """The table of ``numbers``, which :meth:`find` found."""
        if numbers not in self._made:
            place = self._places[numbers]
            assert place is not None
            self._made[numbers] = self._cut(place, len(numbers))
        return self._made[numbers]

    def emit_negated(self, numbers: tuple[int, ...]) -> Value:
        """The table of ``numbers``, negated."""
        if numbers not in self._negated:
            self._negated[numbers] = self._rewriter.emit("neg", self.emit(numbers))
        return self._negated[numbers]

    def _cut(self, place: _Place, count: int) -> Value:
        emit = self._rewriter.emit
        tokens, *row = place.table.type.shape
        size = math.prod(int(dim) for dim in row)
        table = place.table
        start, step = place.start, place.step
        if len(row) != 1 and step == 1:
            table = emit("reshape", table, shape=(tokens, size))
        if step > 1:
            groups = emit("reshape", table, shape=(tokens, size // step, step))
            taken = emit("slice", groups, axis=2, start=start % step, stop=start % step + 1)
            table = emit("reshape", taken, shape=(tokens, size // step))
            start, size = start // step, size // step
        return table if count == size else emit("slice", table, axis=1, start=start, stop=start + count)


def _place_in(table: Value, row: Numbers, numbers: tuple[int, ...]) -> _Place | None:
    """Where ``row`` holds ``numbers``, in even steps that divide it."""
    wanted = np.array(numbers)
    for start in np.flatnonzero(row == wanted[0]).tolist():
        for step in (1, 2) if len(numbers) > 1 else (1,):
            if row.size % step == 0 and np.array_equal(row[start::step][: len(wanted)], wanted):
                return _Place(table, start, step)
    return None
