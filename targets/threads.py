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
    Pinning the other threads alone, or all to a core each, changed nothing that could be measured in a decode
    step of a 1B-shaped model (two cores, medians of 40 steps in turns). Starting a region on two threads and
    waiting for its end takes 0.9 us, which is 1 % of such a step's two hundred; between regions and steps the
    others spin, and sleep when nothing comes for long.
    """
    count = os.environ.setdefault("TVM_NUM_THREADS", str(detect_host().num_cores))
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    return int(count) if count.isdigit() and int(count) > 0 else 1
