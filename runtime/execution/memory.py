"""Memory for kernels: at the start of a page, and in huge pages where the system has them.

Weights are streamed through once a token, and keys and values are read all over the place. In pages of 4 KiB
the processor spends a quarter of such a step on looking up where they lie; in pages of 2 MiB next to nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Bytes", "are_huge", "ask_for_huge", "empty_pages", "give_back", "populate"]

Scalar = TypeVar("Scalar", bound=np.generic)
Bytes = npt.NDArray[np.uint8]

HUGE_PAGE = 1 << 21
"""Bytes in a huge page of most systems; where they are others, nothing here goes wrong."""

_POPULATE_READ = 22  # Linux 5.14; Python has no name for it
_PIECE = 1 << 25
_MOST_SMALL = 1 / 16


def empty_pages(shape: tuple[int, ...], dtype: np.dtype[Scalar]) -> npt.NDArray[Scalar]:
    """Zeros that the system gives out as they are first written."""
    count = int(np.prod(shape, dtype=np.int64))
    # Private, because shared memory has pages of its own kind, seldom huge ones.
    memory = mmap.mmap(-1, max(1, count * dtype.itemsize), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ask_for_huge(memory)
    return np.frombuffer(memory, dtype, count).reshape(shape)


def ask_for_huge(memory: mmap.mmap) -> None:
    """Prefer huge pages: for memory of its own, and for what is yet to be read of a file."""
    if len(memory) >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system built without them
            memory.madvise(mmap.MADV_HUGEPAGE)


def populate(mapped: Bytes) -> None:
    """Read a mapped file, and enter its pages into the page table; other threads run meanwhile.

    Where the system cannot, pages are entered as they are first read, some hundred thousand of them.
    """
    if sys.platform == "linux":
        # Piece by piece, because who wants memory from the system meanwhile waits for the end of one.
        for start in range(0, len(mapped), _PIECE):
            _advise(mapped[start : start + _PIECE], _POPULATE_READ)


def give_back(mapped: Bytes) -> None:
    """Let go of the whole pages within part of a mapped file; reading them again finds the file's."""
    first = -(-mapped.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    skipped, rest = first - mapped.ctypes.data, mapped.ctypes.data + len(mapped) - first
    if sys.platform == "linux" and rest >= mmap.PAGESIZE:
        _advise(mapped[skipped : skipped + rest // mmap.PAGESIZE * mmap.PAGESIZE], mmap.MADV_DONTNEED)


def are_huge(mapped: Bytes) -> bool:
    """Whether nearly all of a mapped file lies in huge pages; where the system does not tell: yes."""
    address, huge = mapped.ctypes.data, None
    with suppress(OSError):
        for line in Path("/proc/self/smaps").read_text().splitlines():
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                start, _, end = words[0].partition("-")
                is_ours = int(start, 16) <= address < int(end, 16)
            elif is_ours and words[0] == "FilePmdMapped:":
                huge = int(words[1]) * 1024
                break
    return huge is None or huge >= (1 - _MOST_SMALL) * len(mapped)


def _advise(memory: Bytes, advice: int) -> None:
    # By way of ctypes, because mmap.madvise keeps other threads waiting, and this can take seconds.
    library = ctypes.CDLL(None)
    library.madvise(ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(len(memory)), ctypes.c_int(advice))
