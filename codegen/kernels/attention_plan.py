"""How the work of a step's attention is cut into tasks for the cores."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from .online_softmax import PIECE
from .script import Buffer, Expr, T, Vector, cast, load, store

__all__ = ["Plan", "Task"]

SPLIT_ROWS = 64
"""Steps of at most so many rows are cut into the pieces of their contexts, too."""


@dataclass(frozen=True)
class Task:
    """``count`` rows of a sequence from row ``first`` on, whose positions begin with ``position``.

    It goes over the pieces of the context from ``piece`` to before ``end``; ``last_page`` is the last of the
    context in the page table.
    """

    sequence: tirx.Expr
    first: tirx.Expr
    count: tirx.Expr
    position: tirx.Expr
    piece: tirx.Expr
    end: tirx.Expr
    last_page: tirx.Expr


@dataclass(frozen=True)
class Plan:
    """The tasks of a step, written down before any of them is begun.

    Where it ``is_split``, each task has one piece, and what it sums up is kept until all are done.
    """

    num_tasks: tirx.Expr
    is_split: tirx.Expr
    num_rows: tirx.Expr
    _tasks: Buffer
    _positions: Buffer
    _window: int
    _most_pieces: Expr

    @classmethod
    def of_step(
        cls,
        page_size: int,
        window: int,
        run_rows: int,
        rows: Buffer,
        sequence_starts: Buffer,
        context_lengths: Buffer,
        page_table: Buffer,
    ) -> Plan:
        """Emit what makes the plan for a step with these arguments, in runs of at most ``run_rows``."""
        num_rows, num_sequences = rows.shape[0], context_lengths.shape[0]
        split_rows = tirx.min(num_rows, SPLIT_ROWS)
        most_pieces = (page_table.shape[1] * page_size + (PIECE - 1)) // PIECE
        most_tasks = tirx.max(num_rows // run_rows + num_sequences, split_rows * most_pieces)
        tasks = T.alloc_buffer((most_tasks, len(Task.__dataclass_fields__)), "int32")
        positions = T.alloc_buffer((split_rows,), "int32")
        num_tasks, longest = Vector("int32", 1), Vector("int32", 1)
        longest.set(T.int32(0))
        with T.serial(num_sequences) as sequence:
            longest.set(tirx.max(longest.value, load(context_lengths, sequence)))
        is_split = tirx.And(num_rows <= SPLIT_ROWS, longest.value > PIECE)
        num_tasks.set(T.int32(0))
        with T.serial(num_sequences) as sequence:
            start, count, length = (Vector("int32", 1) for _ in range(3))
            start.set(load(sequence_starts, sequence))
            count.set(load(sequence_starts, sequence + 1) - start.value)
            length.set(load(context_lengths, sequence))
            with T.If(is_split), T.Then(), T.serial(count.value) as row:
                store(positions, start.value + row, length.value - count.value + row)
            num_runs = (count.value + (run_rows - 1)) // run_rows
            with T.serial(num_runs) as turn:
                # Later runs of a prompt see more; first, last, second, last but one: neighbours are even.
                folded = num_runs - 1 - turn // 2
                run, size, position = (Vector("int32", 1) for _ in range(3))
                run.set(tirx.Select(tirx.EQ(tirx.floormod(turn, 2), 0), turn // 2, folded))
                size.set(tirx.min(run_rows, count.value - run.value * run_rows))
                position.set(length.value - count.value + run.value * run_rows)
                begin, end, step = (Vector("int32", 1) for _ in range(3))
                begin.set(_first_piece(position.value, window))
                end.set((position.value + size.value - 1) // PIECE + 1)
                step.set(tirx.Select(is_split, 1, end.value - begin.value))
                with T.serial((end.value - begin.value) // step.value) as index:
                    first = begin.value + index * step.value
                    fields = (
                        cast("int32", 1, sequence),
                        start.value + run.value * run_rows,
                        size.value,
                        position.value,
                        first,
                        first + step.value,
                        (length.value - 1) // page_size,
                    )
                    for field, value in enumerate(fields):
                        store(tasks, (num_tasks.value, field), value)
                    num_tasks.set(num_tasks.value + 1)
        return cls(num_tasks.value, is_split, num_rows, tasks, positions, window, most_pieces)

    def task(self, number: Expr) -> Task:
        """One of the tasks."""
        fields = [Vector("int32", 1) for _ in Task.__dataclass_fields__]
        for index, field in enumerate(fields):
            field.set(load(self._tasks, (number, index)))
        return Task(*(field.value for field in fields))

    def records(self, heads: int, width: int) -> Buffer:
        """Room for ``width`` floats of every row, piece and head where the step is split."""
        split_rows = self._positions.shape[0]
        return T.alloc_buffer((split_rows, self._most_pieces, heads, width), "float32")

    def pieces_of(self, row: Expr) -> tuple[tirx.Expr, tirx.Expr]:
        """The pieces that a row sees something of, from and to before, where the step is split."""
        position = load(self._positions, row)
        return _first_piece(position, self._window), position // PIECE + 1


def _first_piece(position: tirx.Expr, window: int) -> tirx.Expr:
    return tirx.max(position - (window - 1), 0) // PIECE if window else T.int32(0)
