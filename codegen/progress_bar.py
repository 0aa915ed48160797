"""Compiling and downloading, as a terminal shows them while they go on."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

__all__ = ["DownloadBar", "ProgressBar"]

_LOG = logging.getLogger(__name__)


class ProgressBar:
    """A :class:`CompileProgress` on stderr: a line a stage, with its bar and its time; gone at the end.

    Where stderr is no terminal there is no bar, and where logging is on (``-v``) stages are logged instead.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<26}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal or _LOG.isEnabledFor(logging.INFO),
        )
        self._total: int | None = None
        self._task = self._progress.add_task("Starting", total=None)

    def stage(self, title: str, total: int | None) -> None:
        """End the stage before, and begin one of ``total`` steps."""
        _LOG.info("%s", title)
        steps = self._total or 1
        self._progress.update(self._task, total=steps, completed=steps)
        self._total = total
        self._task = self._progress.add_task(title, total=total)

    def advance(self, amount: int = 1) -> None:
        """So many steps further."""
        self._progress.advance(self._task, amount)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class DownloadBar:
    """A :class:`DownloadProgress` on stderr; there is nothing to see until bytes come in."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("Downloading"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __call__(self, num_bytes_done: int, num_bytes_total: int) -> None:
        """Take note of how much has come in."""
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("", total=num_bytes_total)
        self._progress.update(self._task, completed=num_bytes_done, total=num_bytes_total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
