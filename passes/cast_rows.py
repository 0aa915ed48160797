"""The scalar type of rows on their way to weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..ir import Module, Operation, ScalarType, Value
from .assignment import weight_of
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["CastRows"]

_PRODUCTS = ("linear", "expert_linear", "head_linear")


@dataclass(frozen=True)
class CastRows(Pass):
    """Round the rows of products with weights of bfloat16 to bfloat16, where ``dtype`` is that.

    It is what is meant by computing in bfloat16: machines multiply pairs of them at once. Products are added
    up in float32. Where ``dtype`` is None, the checkpoint's type is that of weights alone.
    """

    dtype: ScalarType | None

    name: ClassVar[str] = "cast_rows"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized", "paged", "ragged")

    @property
    def preserves_values(self) -> bool:
        """Unless it rounds."""
        return self.dtype is not ScalarType.BFLOAT16

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        found = [
            operation
            for operation in module.forward.operations
            if operation.operator in _PRODUCTS
            and operation.operands[0].type.element is ScalarType.FLOAT32
            and weight_of(operation).type.element is self.dtype
        ]
        if not found or self.dtype is not ScalarType.BFLOAT16:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)
        rounded: dict[Value, Value] = {}

        def multiply(operation: Operation) -> None:
            x, *others = operation.operands
            if x not in rounded:
                rounded[x] = rewriter.forward.emit("cast", x, to=ScalarType.BFLOAT16.value)
            rewriter.forward.emit(operation.operator, rounded[x], *others, replaces=operation.result)

        rewriter.forward.apply({operation: partial(multiply, operation) for operation in found})
        return Rewritten(rewriter.finish())
