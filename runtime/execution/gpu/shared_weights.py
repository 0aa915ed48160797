"""Weights that a GPU reads where their file is mapped, cut into parts no longer than it takes at once."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from ....ir.errors import ArtifactError
from ....targets.manifest import ArrayRecord
from ....targets.sizes import format_size
from ..mapped_arrays import MappedArrays
from ..memory import Bytes

__all__ = ["Segment", "segments_of"]


@dataclass(frozen=True, slots=True)
class Segment:
    """Whole pages of a file in memory, ``offset`` is that of the first, and the arrays that lie in them."""

    pages: Bytes
    offset: int
    records: tuple[ArrayRecord, ...]

    @property
    def address(self) -> int:
        """Where it begins."""
        return int(self.pages.ctypes.data)

    @property
    def num_bytes(self) -> int:
        """How long it is."""
        return len(self.pages)

    def address_of(self, record: ArrayRecord) -> int:
        """Where one of its arrays begins."""
        return self.address + record.offset - self.offset


def segments_of(
    arrays: MappedArrays, records: Iterable[ArrayRecord], *, most_bytes: int
) -> Iterator[Segment]:
    """The files of arrays, mapped for reading alone, as segments of at most ``most_bytes``.

    A page at the edge of two segments is in both. Raises :class:`ArtifactError` where an array is longer, or
    does not lie in its file.
    """
    ordered = sorted(set(records), key=lambda record: (record.file, record.offset))
    for file, of_file in groupby(ordered, key=lambda record: record.file):
        spans = [_Span.of(record, len(arrays.bytes_of(record))) for record in of_file]
        # Shared and read-only, so that no page is ever copied: a GPU's driver asks for what may be written.
        with (arrays.folder / file).open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        whole = _whole_pages(mapped)
        for part in _parts(spans, most_bytes):
            start, end = part[0].start, part[-1].end
            if end - start > most_bytes:
                raise ArtifactError(
                    f"an array of {arrays.folder / file} takes {format_size(end - start)}, and the GPU takes "
                    f"{format_size(most_bytes)} at once"
                )
            yield Segment(whole[start:end], start, tuple(span.record for span in part))


@dataclass(frozen=True, slots=True)
class _Span:
    """The pages of an array, as bytes of its file."""

    record: ArrayRecord
    start: int
    end: int

    @classmethod
    def of(cls, record: ArrayRecord, num_bytes: int) -> _Span:
        start = record.offset // mmap.PAGESIZE * mmap.PAGESIZE
        return cls(record, start, _up(record.offset + max(num_bytes, 1)))


def _whole_pages(mapped: mmap.mmap) -> Bytes:
    """A mapped file as far as its last page goes, which the system fills with zeros."""
    begin = np.frombuffer(mapped, np.uint8)
    return np.lib.stride_tricks.as_strided(begin, (_up(len(mapped)),), writeable=False)


def _parts(spans: Iterable[_Span], most_bytes: int) -> Iterator[list[_Span]]:
    """Neighbours that fit into a segment together; those of one artifact do not overlap."""
    part: list[_Span] = []
    for span in spans:
        if part and span.end - part[0].start > most_bytes:
            yield part
            part = []
        part.append(span)
    if part:
        yield part


def _up(num_bytes: int) -> int:
    return -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
