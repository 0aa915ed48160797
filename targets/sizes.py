"""Sizes of memory as people write them."""

import re

from ..ir.errors import RequestError

__all__ = ["format_size", "parse_size", "parse_size_or_auto"]

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_size(size: str | int, *, name: str) -> int:
    """Return a size in bytes: an integer as it is, or text such as ``"2GiB"``, ``"512 MB"``, ``"1.5GiB"``.

    Raises:
        RequestError: it is not a size, or less than one byte; ``name`` says whose it is.
    """
    num_bytes: int | None = None
    if isinstance(size, int) and not isinstance(size, bool):
        num_bytes = size
    elif isinstance(size, str) and (match := _SIZE.fullmatch(size)):
        unit = _UNITS.get(match[2].lower())
        num_bytes = None if unit is None else int(float(match[1]) * unit)
    if num_bytes is None or num_bytes < 1:
        raise RequestError(
            f"{name} must be a size in bytes or text such as '2GiB' or '512MB', not {size!r}", name
        )
    return num_bytes


def parse_size_or_auto(size: str | int | None, *, name: str) -> int | None:
    """The same; ``None`` for ``"auto"`` or ``None``: whoever uses it finds out how much is right."""
    return None if size is None or size == "auto" else parse_size(size, name=name)


def format_size(num_bytes: int) -> str:
    """Return a size as people read it: ``"512 B"``, ``"1.5 MiB"``, ``"2.00 GiB"``."""
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
