"""How many threads kernels run on. Compiler and runtime both tell TVM before its pool starts."""

from __future__ import annotations

import os

from .host import detect_host

__all__ = ["use_all_cores"]


def use_all_cores() -> int:
    """Set TVM's thread count to this process's cores unless ``TVM_NUM_THREADS`` says otherwise, and return
    it.

    Left to itself TVM takes half the logical cores, and pins the thread that calls it; both are wrong where a
    container or virtual machine gives whole cores, and pinning slows down everything that shares the process.
    """
    count = os.environ.setdefault("TVM_NUM_THREADS", str(detect_host().num_cores))
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    return int(count) if count.isdigit() and int(count) > 0 else 1
