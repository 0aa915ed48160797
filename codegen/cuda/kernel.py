"""Device functions: instances of the templates in ``sources/``, one for each use that differs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DeviceFunction", "library_source", "source_of"]

_SOURCES = Path(__file__).with_name("sources")
_LIBRARY = ("numbers.cuh", "rows.cuh", "weights.cuh", "products.cuh", "attention.cuh")
"""In the order in which they need each other; ``machine.cuh`` comes before all."""


@dataclass(frozen=True, slots=True)
class DeviceFunction:
    """A kernel by ``name``: parameters as C++ declares them, statements, and the threads of its blocks."""

    name: str
    parameters: tuple[str, ...]
    body: str
    threads: int

    @property
    def text(self) -> str:
        """Its definition."""
        return (
            f"INGOT_KERNEL({self.threads}) {self.name}({', '.join(self.parameters)}) {{\n  {self.body}\n}}\n"
        )


def library_source(name: str) -> str:
    """A file of templates."""
    text = (_SOURCES / name).read_text(encoding="utf-8")
    return text.replace("#pragma once\n", "")


def source_of(functions: Iterable[DeviceFunction], *, machine: str | None = None) -> str:
    """A whole program of CUDA C++; ``machine`` takes the place of ``machine.cuh``."""
    parts = [library_source("machine.cuh") if machine is None else machine]
    parts += [library_source(name) for name in _LIBRARY]
    return "\n".join([*parts, "using namespace ingot;\n", *(function.text for function in functions)])
