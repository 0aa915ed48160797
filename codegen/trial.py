"""What an artifact is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..targets.manifest import AccuracyRecord

__all__ = ["Judge", "Trial"]

Judge: TypeAlias = Callable[[Path, Path], AccuracyRecord]
"""Compares an artifact with scores that were recorded in a folder."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What an artifact is judged by: a text, None for a few paragraphs of several kinds, and by whom."""

    text: Path | None
    judge: Judge
