"""Constants with the weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from ..ir import Module, Operation
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["StoreConstants"]


@dataclass(frozen=True)
class StoreConstants(Pass):
    """Constants of more than one element become parameters.

    Numbers become part of the code that uses them. A table of positions, or a vector for all rows, is read
    from memory like a weight; a model that was traced holds some.
    """

    name: ClassVar[str] = "store_constants"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        constants = [
            operation
            for operation in module.forward.operations
            if operation.operator == "constant" and np.size(operation.attributes["value"]) > 1
        ]
        if not constants:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)

        def store(operation: Operation) -> None:
            name = f"constant.{operation.result.name}"
            prepared = rewriter.compute("constant", name=name, value=operation.attributes["value"])
            rewriter.forward.replace(operation.result, rewriter.add_parameter(prepared))

        rewriter.forward.apply({operation: partial(store, operation) for operation in constants})
        return Rewritten(rewriter.finish())
