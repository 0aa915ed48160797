"""Ragged batches over slots of state, and rows to compute on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from ingot.codegen.kernels.rows import Rows

__all__ = ["MIXED", "PAGE_SIZE", "Batch", "Floats", "rows_of"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

PAGE_SIZE = 16
MIXED = [(1, 1), (5, 5), (1, 16), (1, 17), (23, 87), (16, 32), (9, 41), (40, 40), (2, 3)]
"""New tokens and context of each sequence."""


@dataclass(frozen=True)
class Batch:
    """A ragged batch; what no earlier token has left is NaN in the slots."""

    starts: Ints
    lengths: Ints
    table: Ints

    @classmethod
    def of(cls, sequences: Sequence[tuple[int, int]]) -> Batch:
        counts, lengths = (np.array(column, np.int32) for column in zip(*sequences, strict=True))
        width = -(-int(lengths.max()) // PAGE_SIZE)
        table = np.random.default_rng(1).permutation(len(sequences) * width).astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return cls(starts, lengths, table.reshape(len(sequences), width))

    @property
    def arrays(self) -> tuple[Ints, Ints, Ints]:
        return self.starts, self.lengths, self.table

    def slots(self, *shape: int) -> Floats:
        random = np.random.default_rng(2)
        slots = np.full((self.table.size, *shape), np.nan, np.float32)
        for count, length, pages in zip(np.diff(self.starts), self.lengths, self.table, strict=True):
            if length > count:
                slots[pages[(length - count - 1) // PAGE_SIZE]] = random.standard_normal(shape)
        return slots

    def pieces(self, sequence: int, size: int) -> list[tuple[slice, Batch]]:
        """One sequence's tokens in chunks of ``size``, as when each ran alone."""
        first, last = map(int, self.starts[sequence : sequence + 2])
        cut = [(start, min(start + size, last)) for start in range(first, last, size)]
        return [
            (
                slice(start, stop),
                replace(
                    self,
                    starts=np.array([0, stop - start], np.int32),
                    lengths=self.lengths[sequence : sequence + 1] - np.int32(last - stop),
                    table=self.table[sequence : sequence + 1],
                ),
            )
            for start, stop in cut
        ]


def rows_of(view: Rows, num_rows: int, seed: int) -> tuple[Floats, Floats]:
    """A buffer, and the part of it that ``view`` shows."""
    buffer = np.random.default_rng(seed).standard_normal((num_rows, view.stride)).astype(np.float32)
    return buffer, buffer[:, view.offset : view.offset + view.width]
