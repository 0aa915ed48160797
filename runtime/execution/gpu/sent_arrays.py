"""Arrays that the host writes for each step: side by side, so that one copy brings them to the device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .arena import aligned
from .device import Device

__all__ = ["SentArrays"]


class SentArrays:
    """Arrays at fixed places on the device; what is last is copied only as far as it is used.

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
        self._memory = device.host_memory(aligned(num_bytes))
        self.addresses = {name: self._address + offset for name, offset in self._offsets.items()}

    def send(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Copy some of the arrays, each as long as it is, before what is launched next."""
        first, end = len(self._memory), 0
        for name, offset in self._offsets.items():
            if name in arrays and (size := arrays[name].nbytes):
                own = self._memory[offset : offset + size]
                own[:] = np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8)
                first, end = min(first, offset), offset + size
        if end:
            self._device.send(self._address + first, self._memory[first:end])
