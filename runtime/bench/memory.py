"""The most memory this process has held at once."""

from __future__ import annotations

import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["forget_peak_memory", "peak_memory_bytes"]

_HIGH_WATER_MARK = re.compile(r"^VmHWM:\s*(\d+) kB$", re.MULTILINE)


def forget_peak_memory() -> None:
    """Count from now on, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """Bytes of memory that were resident at once at most, mapped files included."""
    status = Path("/proc/self/status")
    if status.is_file() and (match := _HIGH_WATER_MARK.search(status.read_text())):
        # What getrusage tells on Linux is at least what the parent held when it started this process.
        return int(match[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
