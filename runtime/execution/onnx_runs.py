"""A step as the runs of a graph: sequences of like lengths together.

Inside the graph, sequences are filled up to the longest, in tokens and in context. So a prompt and an
answer's next token do not go together, nor does a long context with many short ones; and a chunk whose scores
would take too much memory is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..scheduling.step import LogitRows, SequenceChunk, Step

__all__ = ["Run", "split_step"]

MOST_SCORES = 1 << 20
"""Queries times keys of a run, for each head: 4 MiB of scores."""

LITTLE = 1 << 13
"""Queries times keys that may be wasted: about what reading the weights once more takes."""


@dataclass(frozen=True, slots=True)
class Run:
    """Chunks that run together, and for each row of logits they give its place among the step's."""

    step: Step
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk or a part of one; ``first_row`` is the place of its first row of logits."""

    chunk: SequenceChunk
    first_row: int

    @property
    def num_tokens(self) -> int:
        return len(self.chunk.token_ids)

    @property
    def context(self) -> int:
        return self.chunk.num_computed_tokens + self.num_tokens


def split_step(step: Step, page_size: int, *, within_pages: bool) -> list[Run]:
    """The runs of ``step``, in order; ``within_pages`` lets none of them go over a page's end.

    A step whose sequences are alike is one run, its rows where the step wants them.
    """
    waves: list[list[_Piece]] = []
    row = 0
    for chunk in step.chunks:
        for number, piece in enumerate(_cut(chunk, row, page_size, within_pages=within_pages)):
            while len(waves) <= number:
                waves.append([])
            waves[number].append(piece)
        row += chunk.num_logit_rows
    return [_run(group) for wave in waves for group in _groups(wave)]


def _cut(chunk: SequenceChunk, row: int, page_size: int, *, within_pages: bool) -> Iterator[_Piece]:
    """Parts of ``chunk``, each behind the one before it."""
    done = chunk.num_computed_tokens
    end = done + len(chunk.token_ids)
    while done < end:
        stop = min(end, done + max(1, MOST_SCORES // end))
        if within_pages:
            stop = min(stop, (done // page_size + 1) * page_size)
        tokens = chunk.token_ids[done - chunk.num_computed_tokens : stop - chunk.num_computed_tokens]
        is_last_wanted = chunk.logits is LogitRows.LAST and stop == end
        rows = LogitRows.LAST if is_last_wanted else LogitRows.NONE
        if chunk.logits is LogitRows.ALL:
            rows = LogitRows.ALL
        pages = chunk.pages[: -(-stop // page_size)]
        part = SequenceChunk(chunk.sequence_id, tokens, done, pages, rows)
        yield _Piece(part, row)
        row += part.num_logit_rows
        done = stop


def _groups(pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces that go together, in the order in which they came."""
    places = sorted(range(len(pieces)), key=lambda place: (pieces[place].num_tokens, pieces[place].context))
    groups: list[list[int]] = []
    for place in places:
        if groups and _go_together([pieces[other] for other in (*groups[-1], place)]):
            groups[-1].append(place)
        else:
            groups.append([place])
    for group in groups:
        yield [pieces[place] for place in sorted(group)]


def _go_together(pieces: Sequence[_Piece]) -> bool:
    longest = max(piece.num_tokens for piece in pieces)
    filled = len(pieces) * longest * max(piece.context for piece in pieces)
    needed = sum(piece.num_tokens * piece.context for piece in pieces)
    if filled > MOST_SCORES and longest > 1:
        return False
    return filled <= 2 * needed or filled - needed <= LITTLE


def _run(pieces: Sequence[_Piece]) -> Run:
    rows = (piece.first_row + number for piece in pieces for number in range(piece.chunk.num_logit_rows))
    return Run(Step(tuple(piece.chunk for piece in pieces)), tuple(rows))
