"""What the driver is told of a launch, as C has it (cuLaunchKernelEx in cuda.h).

A step has hundreds of launches: they are written into one piece of memory, one after the other, as the driver
copies what it is told.
"""

from __future__ import annotations

import ctypes
import struct
from array import array
from typing import cast

from .device import KernelLaunch

__all__ = ["LaunchWriter"]

_BEGINS_EARLY = 6
"""CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION."""

_CONFIG = struct.Struct("=7I4xQQI4x")
"""Grid and block, bytes of shared memory, the stream, attributes and how many there are."""


class _Attribute(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int), ("padding", ctypes.c_int), ("value", ctypes.c_int * 16))


class LaunchWriter:
    """Writes launches on a stream as the driver reads them."""

    def __init__(self, stream: ctypes.c_void_p) -> None:
        self._stream = stream.value or 0
        self._config = ctypes.create_string_buffer(_CONFIG.size)
        self._attribute = _Attribute(_BEGINS_EARLY, 0, (ctypes.c_int * 16)(1))
        self._arguments: tuple[array[int], array[int]] | None = None

    def write(
        self, launch: KernelLaunch, shared_bytes: int, *, begins_early: bool
    ) -> tuple[ctypes.Array[ctypes.c_char], ctypes.c_void_p]:
        """The configuration of ``launch``, and the addresses of its arguments; good until the next call.

        It ``begins_early`` where its kernel waits for the launch before by itself.
        """
        _CONFIG.pack_into(
            self._config,
            0,
            *launch.grid,
            launch.threads,
            1,
            1,
            shared_bytes,
            self._stream,
            ctypes.addressof(self._attribute),
            int(begins_early),
        )
        # All of eight bytes: of a number, which has four, the driver reads the lower ones.
        values = array("Q", cast("tuple[int, ...]", launch.arguments))
        first, count = values.buffer_info()
        addresses = array("Q", range(first, first + 8 * count, 8))
        self._arguments = values, addresses
        return self._config, ctypes.c_void_p(addresses.buffer_info()[0])
