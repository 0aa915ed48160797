"""What operators over slots of state share: how a ragged batch uses the slots, and what types must fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ..operator import Array, Attribute
from ..types import ScalarType, TensorType
from ._infer import plain, require

__all__ = ["Part", "check_batch", "check_slots", "parts_of"]


@dataclass(frozen=True, slots=True)
class Part:
    """What one sequence computes in a step: its ``rows`` of the batch, and the slots it uses.

    ``source`` is the page whose slot it begins with, None at the beginning of a sequence. ``written`` holds
    for each slot to be written the page, and how many of the rows have been gone through then.
    """

    rows: slice
    source: int | None
    written: tuple[tuple[int, int], ...]


def parts_of(batch: Sequence[Array], page_size: int) -> Iterator[Part]:
    """Each sequence's part; ``batch`` is sequence starts, context lengths and page table."""
    starts, lengths, table = (plain(array).astype(np.int64) for array in batch)
    for sequence, length in enumerate(map(int, lengths)):
        first, last = int(starts[sequence]), int(starts[sequence + 1])
        begin = length - (last - first)
        source = int(table[sequence, (begin - 1) // page_size]) if begin else None
        ends = [end for end in range(begin + 1, length + 1) if end % page_size == 0 or end == length]
        written = tuple((int(table[sequence, (end - 1) // page_size]), end - begin) for end in ends)
        yield Part(slice(first, last), source, written)


def check_batch(batch: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> None:
    """Raise :class:`IRError` unless these describe a batch in pages."""
    starts, lengths, table = batch
    integers = all(type_.element is ScalarType.INT32 for type_ in batch)
    ranks = starts.rank, lengths.rank, table.rank
    require(integers and ranks == (1, 1, 2), "the batch is described in int32")
    require(lengths.shape[0] == table.shape[0], f"{lengths} and {table} are not of the same sequences")
    require(cast(int, attributes["page_size"]) > 0, "a page holds at least one position")


def check_slots(slots: TensorType, *shape: int) -> None:
    """Raise :class:`IRError` unless each page has a slot of ``shape``."""
    expected = TensorType((slots.shape[0], *shape), ScalarType.FLOAT32)
    require(slots == expected, f"the slots must be {expected}, not {slots}")
