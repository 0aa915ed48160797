"""Apple's GPUs: that of this Mac, as Metal shows it, and what to build for.

https://developer.apple.com/documentation/metal
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from ..ir.errors import CompileError

__all__ = ["FAMILY", "FRAMEWORK", "OBJECTIVE_C", "MetalGpu", "MetalTarget", "find_metal_gpu", "parse_metal"]

OBJECTIVE_C = "/usr/lib/libobjc.A.dylib"
"""The runtime by which the methods of Apple's classes are called."""

FRAMEWORK = "/System/Library/Frameworks/Metal.framework/Metal"

FAMILY = 1007
"""``MTLGPUFamilyApple7``, that of the M1 and of all that came after it: what kernels are written for."""


@dataclass(frozen=True, slots=True)
class MetalTarget:
    """The GPUs of Macs with Apple silicon, whose drivers compile the kernels' source."""

    name: ClassVar[str] = "metal"
    rank: ClassVar[int] = 1000
    library_name: ClassVar[str] = "metal.json"
    """The file name of its launch plan in an artifact; beside it lie the kernels, and what launches them."""


@dataclass(frozen=True, slots=True)
class MetalGpu:
    """This Mac's GPU: what it is called, and how much of the machine's memory it should use."""

    name: str
    memory_bytes: int


def find_metal_gpu() -> MetalGpu | None:
    """The GPU that Metal shows; None where there is no Metal, or no GPU of Apple's own."""
    return _find(OBJECTIVE_C, FRAMEWORK)


@cache
def _find(objective_c: str, framework: str) -> MetalGpu | None:
    try:
        runtime, metal = ctypes.CDLL(objective_c), ctypes.CDLL(framework)
    except OSError:
        return None
    runtime.objc_autoreleasePoolPush.restype = ctypes.c_void_p
    metal.MTLCopyAllDevices.restype = ctypes.c_void_p
    pool = ctypes.c_void_p(runtime.objc_autoreleasePoolPush())
    devices = metal.MTLCopyAllDevices()
    try:
        for number in range(_method(runtime, "count", ctypes.c_ulong)(devices)):
            gpu = _method(runtime, "objectAtIndex:", ctypes.c_void_p, ctypes.c_ulong)(devices, number)
            if _method(runtime, "supportsFamily:", ctypes.c_bool, ctypes.c_long)(gpu, FAMILY):
                name = _method(runtime, "name", ctypes.c_void_p)(gpu)
                text = _method(runtime, "UTF8String", ctypes.c_char_p)(name)
                size = _method(runtime, "recommendedMaxWorkingSetSize", ctypes.c_uint64)(gpu)
                return MetalGpu(text.decode(), size)
    finally:
        _method(runtime, "release", None)(devices)
        runtime.objc_autoreleasePoolPop(pool)
    return None


def _method(runtime: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A method as a function of an object and its arguments; an object that is None answers with nothing."""
    runtime.sel_registerName.restype = ctypes.c_void_p
    selector = runtime.sel_registerName(name.encode())
    # As a function of the method's own type: the processor passes arguments of one with others differently.
    send = ctypes.CFUNCTYPE(result, ctypes.c_void_p, ctypes.c_void_p, *arguments)(("objc_msgSend", runtime))
    return lambda receiver, *given: send(receiver, selector, *given)


def parse_metal(name: str) -> MetalTarget:
    """The target ``metal:name``, where the name is empty: one source is for all GPUs of Apple's own."""
    if name:
        raise CompileError(f"no target 'metal:{name}'; write metal, which is for all Macs with Apple silicon")
    return MetalTarget()
