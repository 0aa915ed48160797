"""The length of sequences, for what depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from ..ir import Graph, Module, Operation
from ..ir.errors import CompileError
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["FixLength"]


@dataclass(frozen=True)
class FixLength(Pass):
    """``sequence_length`` becomes the number ``max_seq_len``: sequences are computed as the longest may be.

    A key lies in its page long before anybody knows how long its sequence will be, so what a token computes
    must not depend on that. Raises :class:`CompileError` where the model has a table of fewer positions.
    """

    max_seq_len: int

    name: ClassVar[str] = "fix_length"
    requires: ClassVar[tuple[str, ...]] = ("plain", "fused")

    @property
    def preserves_values(self) -> bool:
        """Only of the longest sequences."""
        return False

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        self._check_tables(module.forward)
        lengths = [op for op in module.forward.operations if op.operator == "sequence_length"]
        if not lengths:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)
        number = np.array([self.max_seq_len], np.float32)

        def fix(operation: Operation) -> None:
            rewriter.forward.emit("constant", replaces=operation.result, value=number)

        rewriter.forward.apply({operation: partial(fix, operation) for operation in lengths})
        return Rewritten(rewriter.finish())

    def _check_tables(self, graph: Graph) -> None:
        for operation in graph.operations:
            if operation.operator not in ("embedding", "gather_rows"):
                continue
            table, numbers = operation.operands
            if numbers.name == "positions" and numbers in graph.inputs:
                rows = table.type.shape[0]
                if isinstance(rows, int) and rows < self.max_seq_len:
                    raise CompileError(
                        f"{self.name}: {self.max_seq_len} tokens are asked for, and %{table.name} "
                        f"is a table of {rows} positions: max_seq_len is {rows} at most"
                    )
