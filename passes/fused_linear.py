"""Several linears over one input as one, its weight and bias joined in prepare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir import Graph, Operation, Value
from .rewriting import ModuleRewriter, join_names

__all__ = ["FusedLinear", "find_fusible"]


@dataclass(frozen=True)
class FusedLinear:
    """Linears over rows of one input ``[rows, n]``, whose weights are parameters of one element type."""

    linears: tuple[Operation, ...]

    def emit(self, rewriter: ModuleRewriter) -> Value:
        """The one linear; its rows hold the results of the others side by side."""
        weights = [linear.operands[1] for linear in self.linears]
        operands = [self.linears[0].operands[0], self._join(rewriter, weights)]
        if any(len(linear.operands) == 3 for linear in self.linears):
            operands.append(self._join_biases(rewriter))
        return rewriter.forward.emit("linear", *operands)

    @staticmethod
    def _join(rewriter: ModuleRewriter, parameters: Sequence[Value]) -> Value:
        name = join_names([parameter.name for parameter in parameters])
        prepared = [rewriter.prepared(parameter) for parameter in parameters]
        return rewriter.add_parameter(rewriter.compute("concat", *prepared, name=name, axis=0))

    def _join_biases(self, rewriter: ModuleRewriter) -> Value:
        """The biases in a row, zeros for a linear that has none."""
        prepared, names = [], []
        for linear in self.linears:
            if len(linear.operands) == 3:
                prepared.append(rewriter.prepared(linear.operands[2]))
                names.append(linear.operands[2].name)
            else:
                zeros = np.zeros(int(linear.result.type.shape[-1]), np.float32)
                prepared.append(rewriter.compute("constant", name="no_bias", value=zeros))
        name = join_names(names)
        return rewriter.add_parameter(rewriter.compute("concat", *prepared, name=name, axis=0))


def find_fusible(linears: Sequence[Operation | None], graph: Graph) -> FusedLinear | None:
    """The fusion of ``linears``, None where they are not distinct, of one input, and of weights that join."""
    found = tuple(linear for linear in linears if linear is not None)
    if len(found) != len(linears) or len(set(found)) != len(found):
        return None
    parameters = set(graph.parameters)
    weights = [linear.operands[1] for linear in found]
    fits = (
        len({linear.operands[0] for linear in found}) == 1
        and found[0].operands[0].type.rank == 2
        and all(operand in parameters for linear in found for operand in linear.operands[1:])
        and len({weight.type.element for weight in weights}) == 1
    )
    return FusedLinear(found) if fits else None
