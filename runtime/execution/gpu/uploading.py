"""Arrays brought to a device from a mapped file: parts are read by several threads while others travel."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["PART_BYTES", "Carrier", "upload"]

PART_BYTES = 8 << 20
"""What travels at once."""

_NUM_READERS = 4
"""Threads that copy from the file's pages, which may have to be read from the disk first."""

_NUM_PARTS = 2 * _NUM_READERS
"""Parts that are read or travel at the same time."""

Bytes = npt.NDArray[np.uint8]


class Carrier(Protocol):
    """What takes parts to the device."""

    def host_memory(self, num_bytes: int) -> Bytes:
        """Memory from which they travel."""
        ...

    def send(self, address: int, part: Bytes) -> None:
        """Let one go."""
        ...

    def mark(self) -> Callable[[], None]:
        """What waits until all that was let go so far has arrived; it is to be called once."""
        ...


def upload(carrier: Carrier, arrays: Iterable[tuple[int, Bytes]]) -> None:
    """Bring arrays to their addresses; when this returns, all have arrived."""
    memory = carrier.host_memory(_NUM_PARTS * PART_BYTES).reshape(_NUM_PARTS, PART_BYTES)
    marks: list[Callable[[], None] | None] = [None] * _NUM_PARTS
    reading: deque[tuple[int, int, int, Future[None]]] = deque()

    def let_go() -> None:
        slot, address, size, future = reading.popleft()
        future.result()
        carrier.send(address, memory[slot, :size])
        marks[slot] = carrier.mark()

    with ThreadPoolExecutor(_NUM_READERS, "ingot-upload") as readers:
        for number, (address, part) in enumerate(_parts(arrays)):
            slot = number % _NUM_PARTS
            if len(reading) == _NUM_READERS:
                let_go()
            if (wait := marks[slot]) is not None:
                wait()
            future = readers.submit(np.copyto, memory[slot, : len(part)], part)
            reading.append((slot, address, len(part), future))
        while reading:
            let_go()
    for wait in marks:
        if wait is not None:
            wait()


def _parts(arrays: Iterable[tuple[int, Bytes]]) -> Iterator[tuple[int, Bytes]]:
    for address, array in arrays:
        for start in range(0, len(array), PART_BYTES):
            yield address + start, array[start : start + PART_BYTES]
