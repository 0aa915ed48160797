"""What a kernel may ask of a Mac's GPU.

Apple's "Metal Feature Set Tables", of families Apple7 (M1) and later, which are all that macOS runs on with
Apple's own chips; and what ``setBytes:length:atIndex:`` takes.
"""

from __future__ import annotations

import math
import re

from ...ir.errors import CompileError
from ..gpu.kernel import DeviceFunction

__all__ = ["MAX_ARGUMENTS", "MAX_SHARED_BYTES", "MAX_THREADS", "check_limits", "shared_bytes"]

MAX_ARGUMENTS = 31
"""Entries of a function's buffer argument table."""

MAX_SHARED_BYTES = 32 << 10
"""Threadgroup memory, in bytes."""

MAX_THREADS = 1024
"""Threads of a threadgroup."""

_ALIGNMENT = 16
"""Bytes to which the length of each array in threadgroup memory is counted."""

_SHARED_ARRAY = re.compile(r"SHARED_ARRAY\(([\w ]+), (\w+), ((?:\[[^\]]*\])+)\)")
_ITEM_BYTES = {
    **dict.fromkeys(("float4", "uint4"), 16),
    **dict.fromkeys(("uint64",), 8),
    **dict.fromkeys(("float", "int", "unsigned"), 4),
    **dict.fromkeys(("unsigned short",), 2),
    **dict.fromkeys(("unsigned char", "signed char"), 1),
    "Drawing": 2 * 1024 * 8 + 256 * 4 + 16,  # of sources/sampling.h
}


def shared_bytes(function: DeviceFunction) -> int:
    """Bytes of threadgroup memory that a kernel declares.

    Raises :class:`CompileError` where an array's size is no number, so that nobody could say.
    """
    if function.body.count("SHARED_ARRAY") != len(_SHARED_ARRAY.findall(function.body)):
        raise CompileError(f"kernel {function.name}: a SHARED_ARRAY has not the form (type, name, [number])")
    total = 0
    for item, name, extents in _SHARED_ARRAY.findall(function.body):
        dims = extents[1:-1].split("][")
        if item not in _ITEM_BYTES or not all(dim.isdecimal() for dim in dims):
            raise CompileError(
                f"kernel {function.name}: the size of {name} ({item} {extents}) must be numbers, of a type "
                f"among {', '.join(_ITEM_BYTES)}"
            )
        num_bytes = _ITEM_BYTES[item] * math.prod(int(dim) for dim in dims)
        total += -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
    return total


def check_limits(function: DeviceFunction) -> None:
    """Raise :class:`CompileError` where a kernel asks for more than there is."""
    name = function.name
    if (count := len(function.parameters)) > MAX_ARGUMENTS:
        raise CompileError(f"kernel {name} has {count} arguments; Metal binds at most {MAX_ARGUMENTS}")
    if function.threads > MAX_THREADS:
        raise CompileError(
            f"kernel {name} has {function.threads} threads in a threadgroup; Metal runs at most {MAX_THREADS}"
        )
    if (num_bytes := shared_bytes(function)) > MAX_SHARED_BYTES:
        raise CompileError(
            f"kernel {name} shares {num_bytes} bytes in a threadgroup; Metal has {MAX_SHARED_BYTES}"
        )
