"""What the driver is told of a launch, as C has it (cuLaunchKernelEx in cuda.h)."""

from __future__ import annotations

import ctypes

from .device import KernelLaunch

__all__ = ["LaunchConfig"]

_BEGINS_EARLY = 6
"""CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION."""


class _Attribute(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int), ("padding", ctypes.c_int), ("value", ctypes.c_int * 16))


class LaunchConfig(ctypes.Structure):
    """A launch on a stream; it ``begins_early`` where its kernel waits for the launch before by itself."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("num_attributes", ctypes.c_uint),
    )

    @classmethod
    def of(
        cls, launch: KernelLaunch, shared_bytes: int, stream: ctypes.c_void_p, *, begins_early: bool
    ) -> LaunchConfig:
        """What is told of ``launch``."""
        config = cls(
            (ctypes.c_uint * 3)(*launch.grid), (ctypes.c_uint * 3)(launch.threads, 1, 1), shared_bytes, stream
        )
        if begins_early:
            attribute = _Attribute(_BEGINS_EARLY, 0, (ctypes.c_int * 16)(1))
            config.attributes, config.num_attributes = ctypes.pointer(attribute), 1
        return config
