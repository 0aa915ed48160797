"""Several linears over one input, or products of experts, as one: weight and bias joined in prepare.

Weights of one quantization format join as those of one type do: each row is quantized by itself, so what is
joined is what would be quantized.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir import Element, Graph, Operation, QuantFormat, Value
from .rewriting import ModuleRewriter, join_names

__all__ = ["FusedLinear", "find_fusible", "find_fusible_groups"]


@dataclass(frozen=True)
class FusedLinear:
    """Linears over rows of one input ``[rows, n]``, whose weights are parameters of one element type.

    They are all of the operator ``linear``, or all ``expert_linear`` with the same experts.
    """

    linears: tuple[Operation, ...]

    def emit(self, rewriter: ModuleRewriter) -> Value:
        """The one linear; its rows hold the results of the others side by side."""
        weights = [linear.operands[1] for linear in self.linears]
        rows, _, *experts = self._without_bias(self.linears[0])
        operands = [rows, self._join(rewriter, weights), *experts]
        if any(self._bias(linear) for linear in self.linears):
            operands.append(self._join_biases(rewriter))
        return rewriter.forward.emit(self.linears[0].operator, *operands)

    @property
    def _axis(self) -> int:
        """Of a weight's and a bias's outputs."""
        return int(self.linears[0].operator == "expert_linear")

    def _without_bias(self, linear: Operation) -> tuple[Value, ...]:
        return linear.operands[: 2 + self._axis]

    def _bias(self, linear: Operation) -> tuple[Value, ...]:
        return linear.operands[2 + self._axis :]

    def _join(self, rewriter: ModuleRewriter, parameters: Sequence[Value]) -> Value:
        name = join_names([parameter.name for parameter in parameters])
        prepared = [rewriter.prepared(parameter) for parameter in parameters]
        rounded = [rewriter.quantized_from(value) for value in prepared]
        sources = [value for value in rounded if value is not None]
        if len(sources) == len(prepared):
            element = parameters[0].type.element
            assert isinstance(element, QuantFormat)
            source = self._concat(rewriter, sources, name.removesuffix(f".{element.name}"))
            return rewriter.add_parameter(
                rewriter.compute("quantize", source, name=name, format=element.name)
            )
        return rewriter.add_parameter(self._concat(rewriter, prepared, name))

    def _concat(self, rewriter: ModuleRewriter, values: Sequence[Value], name: str) -> Value:
        return rewriter.compute("concat", *values, name=name, axis=self._axis)

    def _join_biases(self, rewriter: ModuleRewriter) -> Value:
        """The biases in a row, zeros for a linear that has none."""
        prepared, names = [], []
        for linear in self.linears:
            if bias := self._bias(linear):
                prepared.append(rewriter.prepared(bias[0]))
                names.append(bias[0].name)
            else:
                shape = [int(dim) for dim in linear.operands[1].type.shape[:-1]]
                zeros = np.zeros(shape, np.float32)
                prepared.append(rewriter.compute("constant", name="no_bias", value=zeros))
        name = join_names(names)
        return rewriter.add_parameter(rewriter.compute("concat", *prepared, name=name, axis=self._axis))


def find_fusible_groups(linears: Iterable[Operation | None], graph: Graph) -> Iterator[FusedLinear]:
    """The fusions there are among ``linears``: of those of one input whose weights are in one format.

    Where all go together that is one.
    """
    alike: dict[tuple[Value, Element], list[Operation]] = {}
    for linear in dict.fromkeys(linears):
        if linear is not None:
            alike.setdefault((linear.operands[0], linear.operands[1].type.element), []).append(linear)
    for group in alike.values():
        if len(group) > 1 and (fusible := find_fusible(group, graph)) is not None:
            yield fusible


def find_fusible(linears: Sequence[Operation | None], graph: Graph) -> FusedLinear | None:
    """The fusion of ``linears``, None where they are not distinct, of one input, and of weights that join.

    So it is with the products of experts.
    """
    found = tuple(linear for linear in linears if linear is not None)
    if len(found) != len(linears) or len(set(found)) != len(found):
        return None
    parameters = set(graph.parameters)
    (operator, *others) = {linear.operator for linear in found}
    if others or operator not in ("linear", "expert_linear"):
        return None
    weights = [linear.operands[1] for linear in found]
    experts = 2 if operator == "expert_linear" else None
    fits = (
        len({linear.operands[0] for linear in found}) == 1
        and found[0].operands[0].type.rank == 2
        and (experts is None or len({linear.operands[experts] for linear in found}) == 1)
        and all(
            operand in parameters
            for linear in found
            for position, operand in enumerate(linear.operands)
            if position not in (0, experts)
        )
        and len({weight.type.element for weight in weights}) == 1
    )
    return FusedLinear(found) if fits else None
