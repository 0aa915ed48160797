"""What kernels over slots of recurrent state share: strips of columns, and walks over a sequence's tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from .isa import Isa
from .script import Buffer, Expr, T, Vector, load, symbol

__all__ = ["Argument", "Batch", "Strip", "described_batch", "each_strip"]

STRIP_VECTORS = 4
"""Vectors of neighbouring columns that one worker goes through the tokens with."""

Argument = tuple[str, tuple[Expr, ...], str]


@dataclass(frozen=True)
class Strip:
    """Columns that a worker takes: those of ``count`` vectors of ``lanes`` from ``start`` on."""

    start: Expr
    lanes: int
    count: int

    @property
    def columns(self) -> list[Expr]:
        """The first column of each vector."""
        return [self.start + index * self.lanes for index in range(self.count)]

    def vectors(self) -> list[Vector]:
        """A variable for each vector of the strip."""
        return [Vector("float32", self.lanes) for _ in range(self.count)]


class Batch:
    """The ragged batch as the kernels here take it, and walks over the tokens of one sequence."""

    def __init__(self, starts: Buffer, lengths: Buffer, table: Buffer, page_size: int) -> None:
        self._starts, self._lengths, self._table = starts, lengths, table
        self._page_size = page_size

    def page_of(self, sequence: Expr, position: Expr) -> tirx.Expr:
        """The page that holds a position of a sequence."""
        return load(self._table, (sequence, position // self._page_size))

    def walk(
        self,
        sequence: Expr,
        begin: Callable[[Expr | None], None],
        advance: Callable[[Expr], None],
        leave: Callable[[Expr], None],
    ) -> None:
        """Emit a walk: ``begin(page)``, None at a sequence's beginning; ``advance(row)``; ``leave(page)``."""
        first, last, length = (Vector("int32", 1) for _ in range(3))
        first.set(load(self._starts, (sequence,)))
        last.set(load(self._starts, (sequence + 1,)))
        length.set(load(self._lengths, (sequence,)))
        done = Vector("int32", 1)
        done.set(length.value - (last.value - first.value))
        page = Vector("int32", 1)
        with T.If(done.value > 0):
            with T.Then():
                page.set(self.page_of(sequence, done.value - 1))
                begin(page.value)
            with T.Else():
                begin(None)
        with T.serial(last.value - first.value) as index:
            advance(first.value + index)
            done.set(done.value + 1)
            fills = tirx.floormod(done.value, self._page_size) == 0
            with T.If(tirx.any(fills, done.value == length.value)), T.Then():
                page.set(self.page_of(sequence, done.value - 1))
                leave(page.value)


def each_strip(isa: Isa, width: int, num_others: Expr, emit: Callable[[Expr, Strip], None]) -> None:
    """Emit parallel work over ``num_others`` things and the strips of ``width`` columns of each."""
    size = STRIP_VECTORS * isa.lanes
    whole, rest = width // size, width % size
    num_strips = whole + bool(rest)

    def remainder(other: Expr) -> None:
        vectors, single = rest // isa.lanes, rest % isa.lanes
        if vectors:
            emit(other, Strip(whole * size, isa.lanes, vectors))
        if single:
            emit(other, Strip(width - single, 1, single))

    with T.parallel(num_others * num_strips) as item:
        other, strip = item // num_strips, tirx.floormod(item, num_strips)
        if not rest:
            emit(other, Strip(strip * size, isa.lanes, STRIP_VECTORS))
        elif not whole:
            remainder(other)
        else:
            with T.If(strip < whole):
                with T.Then():
                    emit(other, Strip(strip * size, isa.lanes, STRIP_VECTORS))
                with T.Else():
                    remainder(other)


def described_batch() -> tuple[list[Argument], Expr, Expr]:
    """The batch's arguments, and the symbols of pages and rows."""
    sequences, bounds, width = symbol("sequences"), symbol("bounds"), symbol("table_width")
    arguments: list[Argument] = [
        ("sequence_starts", (bounds,), "int32"),
        ("context_lengths", (sequences,), "int32"),
        ("page_table", (sequences, width), "int32"),
    ]
    return arguments, symbol("pages"), symbol("m")
