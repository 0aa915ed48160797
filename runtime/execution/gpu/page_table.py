"""The table of a step's pages, of which a next step changes little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...scheduling.step import SequenceChunk

__all__ = ["PageTable"]


class PageTable:
    """Rows of one width, whatever a batch's sequences have: launches are recorded with it.

    A row is written where it differs from what the last step had there; what lies past a row's pages is left
    as it is, as nobody reads it.
    """

    def __init__(self, num_rows: int, width: int) -> None:
        self._table = np.zeros((num_rows, width), np.int32)
        self._rows: list[tuple[int, ...]] = [()] * num_rows

    def fill(self, chunks: Sequence[SequenceChunk]) -> npt.NDArray[np.int32]:
        """Int32 ``[sequences, width]``; good until the next call."""
        for number, chunk in enumerate(chunks):
            pages, before = chunk.pages, self._rows[number]
            if pages == before:
                continue
            same = len(before) if pages[: len(before)] == before else 0
            self._table[number, same : len(pages)] = pages[same:]
            self._rows[number] = pages
        return self._table[: len(chunks)]
