"""Who is told how far compiling has come."""

from __future__ import annotations

from typing import Protocol

__all__ = ["CompileProgress", "SilentProgress"]


class CompileProgress(Protocol):
    """Hears how far compiling has come."""

    def stage(self, title: str, total: int | None) -> None:
        """A new stage of ``total`` steps; None where that is not known."""

    def advance(self, amount: int = 1) -> None:
        """So many steps further."""


class SilentProgress:
    """Progress that nobody watches."""

    def stage(self, title: str, total: int | None) -> None:
        """Nothing is said."""

    def advance(self, amount: int = 1) -> None:
        """Nothing is said."""
