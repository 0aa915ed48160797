"""``huggingface_hub`` reports to a class of progress bars; this one draws nothing and tells a function."""

from __future__ import annotations

from threading import Lock
from typing import Any

from huggingface_hub.utils.tqdm import tqdm

from .progress import DownloadProgress

__all__ = ["silent_bars"]

_BYTES = "huggingface_hub.snapshot_download"
"""The name of the bar that counts the bytes of a download; others count files, or the same bytes again."""


class _Tally:
    """Adds up the bars of several downloads."""

    def __init__(self, report: DownloadProgress | None) -> None:
        self._report = report
        self._counts: dict[int, tuple[int, int]] = {}
        self._lock = Lock()

    def open_bar(self) -> int:
        """The number of a new bar; an object's identity would be used again once it is gone."""
        with self._lock:
            self._counts[len(self._counts)] = (0, 0)
            return len(self._counts) - 1

    def count(self, bar: int, done: int, total: int) -> None:
        """Take note of a bar's bytes."""
        with self._lock:
            if self._report is None or self._counts.get(bar) == (done, total):
                return
            self._counts[bar] = (done, total)
            all_done, all_total = (sum(column) for column in zip(*self._counts.values(), strict=True))
            self._report(all_done, max(all_done, all_total))


def silent_bars(report: DownloadProgress | None) -> type[tqdm]:
    """A class of bars that are never drawn, and whose bytes are added up for ``report``."""
    tally = _Tally(report)

    class Bar(tqdm):
        def __init__(self, *args: Any, name: str | None = None, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]
            self._number = tally.open_bar() if name == _BYTES else None
            self._done = int(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            self.refresh()
            return None

        def refresh(self, *args: Any, **kwargs: Any) -> None:
            if self._number is not None:
                tally.count(self._number, self._done, int(self.total or 0))

    return Bar
