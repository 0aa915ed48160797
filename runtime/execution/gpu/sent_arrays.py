"""Arrays that the host writes for each step: side by side, so that one copy brings them to the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from .arena import aligned
from .device import Device

__all__ = ["SentArrays"]


class SentArrays:
    """Arrays at fixed places on the device; what is last is copied only as far as it is used.

    Two pieces of memory here take turns, so that the next arrays can be written while the last ones travel.

    Attributes:
        addresses: by name.
    """

    def __init__(self, device: Device, sizes: Mapping[str, int]) -> None:
        """Make room for arrays of so many bytes; the largest goes to the end."""
        self._device = device
        self._offsets: dict[str, int] = {}
        num_bytes = 0
        for name in sorted(sizes, key=lambda name: sizes[name]):
            self._offsets[name] = num_bytes
            num_bytes += aligned(sizes[name])
        self._address = device.allocate(aligned(num_bytes))
        self._memories = [device.host_memory(aligned(num_bytes)) for _ in range(2)]
        self._arrivals: list[Callable[[], None] | None] = [None, None]
        self.addresses = {name: self._address + offset for name, offset in self._offsets.items()}

    def send(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Copy some of the arrays, each as long as it is, before what is launched next."""
        memory, wait = self._memories[0], self._arrivals[0]
        if wait is not None:
            wait()
        first, end = len(memory), 0
        for name, offset in self._offsets.items():
            if name in arrays and (size := arrays[name].nbytes):
                own = memory[offset : offset + size]
                own[:] = np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8)
                first, end = min(first, offset), offset + size
        if end:
            self._device.send(self._address + first, memory[first:end])
            self._memories = [self._memories[1], memory]
            self._arrivals = [self._arrivals[1], self._device.mark()]
        else:
            self._arrivals[0] = None
