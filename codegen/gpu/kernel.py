"""Device functions: instances of the templates in ``sources/``, one for each use that differs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .machine import Machine

__all__ = ["DeviceFunction", "read_source", "source_of"]

_SOURCES = Path(__file__).with_name("sources")
_LIBRARY = (
    "numbers.h",
    "formats.h",
    "rows.h",
    "weights.h",
    "products.h",
    "experts.h",
    "cache.h",
    "attention.h",
    "latent.h",
    "recurrent.h",
    "vectors.h",
    "sampling.h",
    "probes.h",
)
"""In the order in which they need each other; the machine's header comes before all."""


@dataclass(frozen=True, slots=True)
class DeviceFunction:
    """A kernel by ``name``: parameters as it declares them, statements, and the threads of its blocks.

    Statements find where they run as ``here``; what their block shares is declared by ``SHARED_ARRAY``. Where
    launches begin before those before them have ended, they find these over, unless it ``waits_itself``.
    """

    name: str
    parameters: tuple[str, ...]
    body: str
    threads: int
    waits_itself: bool = False


def read_source(path: Path) -> str:
    """A file of templates, to be put into a program."""
    return path.read_text(encoding="utf-8").replace("#pragma once\n", "")


def source_of(functions: Iterable[DeviceFunction], machine: Machine, *, header: str | None = None) -> str:
    """A whole program for ``machine``; ``header`` takes the place of its own."""
    parts = [read_source(machine.header) if header is None else header]
    parts += [read_source(_SOURCES / name) for name in _LIBRARY]
    parts += [read_source(path) for path in machine.sources]
    return "\n".join([*parts, "using namespace ingot;\n", *map(machine.write_kernel, functions)])
