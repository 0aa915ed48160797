"""Reading the small files in which Linux says what it is, of which any may be missing."""

from __future__ import annotations

from pathlib import Path

__all__ = ["cpu_list", "number_of", "numbers_of_lines", "text_of"]


def text_of(path: Path) -> str:
    """What a file says, without the white space around it; nothing where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def number_of(path: Path) -> int | None:
    """A file that is one number not below 0; None for any other."""
    text = text_of(path)
    return int(text) if text.isdecimal() else None


def numbers_of_lines(path: Path) -> dict[str, int]:
    """The lines ``NAME NUMBER ...`` of a file; a colon behind the name is no part of it."""
    words = [line.split() for line in text_of(path).splitlines()]
    return {w[0].removesuffix(":"): int(w[1]) for w in words if len(w) > 1 and w[1].isdecimal()}


def cpu_list(text: str) -> frozenset[int]:
    """Processors written as ``0-3,8``; what is no list of numbers is none."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)
