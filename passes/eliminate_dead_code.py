"""Drop what no output needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir import Module
from .base import Pass, Rewritten
from .rewriting import prune

__all__ = ["EliminateDeadCode"]


@dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Drop operations, parameters, what prepares them, and checkpoint tensors that no output needs."""

    name: ClassVar[str] = "eliminate_dead_code"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        return Rewritten(prune(module))
