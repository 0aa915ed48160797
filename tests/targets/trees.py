"""What a system says of itself, in a folder in place of ``/``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_tree"]


def write_tree(root: Path, files: Mapping[str, str]) -> None:
    """Write files by their paths within ``root``."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
