"""Rows rounded on their way to weights that come quantized."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from ..ir import Module, Operation, QuantFormat, ScalarType, Value
from .assignment import weight_of
from .base import Pass, Rewritten
from .quantize_weights import activations_for
from .rewriting import ModuleRewriter

__all__ = ["RoundRows"]

_PRODUCTS = ("linear", "expert_linear", "head_linear")


@dataclass(frozen=True)
class RoundRows(Pass):
    """Round the rows of products whose weights the checkpoint holds as whole numbers, to 8 bits.

    Then products of codes are exact. Rows that meet codes which stand for floats stay as they are.
    """

    name: ClassVar[str] = "round_rows"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized")

    @property
    def preserves_values(self) -> bool:
        """It rounds."""
        return False

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        found = {
            operation: rows
            for operation in module.forward.operations
            if operation.operator in _PRODUCTS
            and operation.operands[0].type.element is ScalarType.FLOAT32
            and (rows := activations_for(weight_of(operation).type)) is not None
        }
        if not found:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)
        rounded: dict[tuple[Value, QuantFormat], Value] = {}

        def multiply(operation: Operation, rows: QuantFormat) -> None:
            x, *others = operation.operands
            key = x, rows
            if key not in rounded:
                rounded[key] = rewriter.forward.emit("quantize", x, format=rows.name)
            rewriter.forward.emit(operation.operator, rounded[key], *others, replaces=operation.result)

        rewriter.forward.apply(
            {operation: partial(multiply, operation, rows) for operation, rows in found.items()}
        )
        return Rewritten(replace(rewriter.finish(), stage="quantized"))
