"""A step as the arrays that a compiled model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from ..scheduling.step import LogitRows, Step

__all__ = ["describe_batch", "describe_tokens"]


def describe_batch(step: Step, page_size: int) -> Mapping[str, npt.NDArray[np.int32]]:
    """The inputs of a paged module (see :mod:`ingot.ir.operators.cache`) by name, all int32.

    Those of :func:`describe_tokens`, and ``page_table`` ``[sequences, pages_per_sequence]``.
    """
    chunks = step.chunks
    page_table = np.zeros((len(chunks), max(len(chunk.pages) for chunk in chunks)), np.int32)
    for row, chunk in enumerate(chunks):
        page_table[row, : len(chunk.pages)] = chunk.pages
    return {**describe_tokens(step, page_size), "page_table": page_table}


def describe_tokens(step: Step, page_size: int) -> Mapping[str, npt.NDArray[np.int32]]:
    """The inputs of a paged module but for the table of pages.

    ``token_ids``, ``positions`` and ``slots`` ``[tokens]``, ``sequence_starts`` ``[sequences + 1]``,
    ``context_lengths`` ``[sequences]``, ``logit_rows`` ``[rows]``. Where a step wants no logits, one row is
    computed all the same: kernels are not made for nothing.
    """
    chunks = step.chunks
    starts = [0, *accumulate(len(chunk.token_ids) for chunk in chunks)]
    ends = [chunk.num_computed_tokens + len(chunk.token_ids) for chunk in chunks]
    token_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    for chunk, end in zip(chunks, ends, strict=True):
        pages, own = chunk.pages, range(chunk.num_computed_tokens, end)
        token_ids += chunk.token_ids
        positions += own
        slots += [pages[position // page_size] * page_size + position % page_size for position in own]
    # Lists, of which arrays are made once: with a token a sequence, calls of numpy would take longer.
    return {
        "token_ids": np.array(token_ids, np.int32),
        "positions": np.array(positions, np.int32),
        "sequence_starts": np.array(starts, np.int32),
        "context_lengths": np.array(ends, np.int32),
        "slots": np.array(slots, np.int32),
        "logit_rows": np.array(_logit_rows(step, starts), np.int32),
    }


def _logit_rows(step: Step, starts: Sequence[int]) -> list[int]:
    rows: list[int] = []
    for chunk, (start, end) in zip(step.chunks, pairwise(starts), strict=True):
        if chunk.logits is LogitRows.LAST:
            rows.append(end - 1)
        elif chunk.logits is LogitRows.ALL:
            rows.extend(range(start, end))
    return rows or [0]
