"""The weights' scalar type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir import Module, ScalarType, Value
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["CastWeights"]


@dataclass(frozen=True)
class CastWeights(Pass):
    """Give unquantized weights of linears and embeddings the type ``dtype``; None keeps the checkpoint's."""

    dtype: ScalarType | None

    name: ClassVar[str] = "cast_weights"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized", "paged", "ragged")

    @property
    def preserves_values(self) -> bool:
        """Only where nothing narrower than float32 is asked for."""
        return self.dtype in (None, ScalarType.FLOAT32)

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        weights = self._weights(module)
        if self.dtype is None or not weights:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)
        for weight in weights:
            name = f"{weight.name}.{self.dtype.value}"
            cast = rewriter.compute("cast", rewriter.prepared(weight), name=name, to=self.dtype.value)
            rewriter.forward.replace(weight, rewriter.add_parameter(cast))
        rewriter.forward.apply({})
        return Rewritten(rewriter.finish())

    def _weights(self, module: Module) -> list[Value]:
        graph = module.forward
        parameters = set(graph.parameters)
        used = {
            operation.operands[0 if operation.operator == "embedding" else 1]: None
            for operation in graph.operations
            if operation.operator in ("linear", "expert_linear", "head_linear", "embedding")
        }
        return [
            weight
            for weight in used
            if weight in parameters
            and isinstance(weight.type.element, ScalarType)
            and weight.type.element is not self.dtype
        ]
