"""How callers hear of a download's progress."""

from __future__ import annotations

from typing import Protocol

__all__ = ["DownloadProgress"]


class DownloadProgress(Protocol):
    """Called as bytes come in, from any thread; both counts grow while more files begin."""

    def __call__(self, num_bytes_done: int, num_bytes_total: int) -> None:
        """Take note."""
        ...
