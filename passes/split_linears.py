"""Projections whose outputs are mixed, taken apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..ir import Graph, Module, Operation, ScalarType, Value
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["SplitLinears"]


@dataclass(frozen=True)
class SplitLinears(Pass):
    """A ``linear`` whose rows are cut within heads or pairs becomes one for each part that is cut out.

    So queries, keys and values that a weight holds head by head, or gate and up that it holds in turn, are
    what they are where the weight holds one after the other: passes that join projections join them again,
    and no rows are copied. The same holds for the products of experts. A weight in a quantization format
    stays whole.
    """

    name: ClassVar[str] = "split_linears"
    requires: ClassVar[tuple[str, ...]] = ("fused",)

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        graph = module.forward
        found = [
            split
            for operation in graph.operations
            if operation.operator in _LEAD and (split := _find_split(operation, graph)) is not None
        ]
        if not found:
            return Rewritten(module)
        rewriter = ModuleRewriter(module)
        rules: dict[Operation, Callable[[], None]] = {}
        for split in found:
            rules.update({split.linear: lambda: None, split.reshape: lambda: None})
            for number, cut in enumerate(split.cuts):
                rules[cut] = partial(split.emit, rewriter, cut, number)
        rewriter.forward.apply(rules)
        return Rewritten(rewriter.finish())


_LEAD = {"linear": 1, "expert_linear": 2}
"""By operator, dimensions of its result that have a row each."""


@dataclass(frozen=True)
class _Split:
    """A linear, how its rows are seen, and the slices that are all that is taken of them."""

    linear: Operation
    reshape: Operation
    cuts: tuple[Operation, ...]

    def emit(self, rewriter: ModuleRewriter, cut: Operation, number: int) -> None:
        """The part that ``cut`` takes, as a linear of its own."""
        lead = _LEAD[self.linear.operator]
        operands = list(self.linear.operands)
        for place in (1, *range(lead + 1, len(operands))):  # weight and bias
            operands[place] = rewriter.add_parameter(self._part(rewriter, operands[place], cut, number))
        rows = rewriter.forward.emit(self.linear.operator, *operands)
        rewriter.forward.emit("reshape", rows, replaces=cut.result, shape=cut.result.type.shape)

    def _part(self, rewriter: ModuleRewriter, parameter: Value, cut: Operation, number: int) -> Value:
        """A weight ``[..., outputs, inputs]``, or a bias, of the outputs that are cut out."""
        lead = _LEAD[self.linear.operator]
        before, after = parameter.type.shape[: lead - 1], parameter.type.shape[lead:]
        seen, taken = (operation.result.type.shape[lead:] for operation in (self.reshape, cut))
        name = f"{parameter.name}.part{number}"
        attributes = {**cut.attributes, "axis": int(str(cut.attributes["axis"])) - 1}
        value = rewriter.prepared(parameter)
        value = rewriter.compute("reshape", value, name=f"{name}.seen", shape=(*before, *seen, *after))
        value = rewriter.compute("slice", value, name=f"{name}.taken", **attributes)
        size = math.prod(int(dim) for dim in taken)
        return rewriter.compute("reshape", value, name=name, shape=(*before, size, *after))


def _find_split(linear: Operation, graph: Graph) -> _Split | None:
    """How a linear is cut within what a row first holds; None where it is not, or used otherwise."""
    lead = _LEAD[linear.operator]
    parameters = set(graph.parameters)
    own = (linear.operands[1], *linear.operands[lead + 1 :])
    if not all(
        value in parameters and isinstance(value.type.element, ScalarType) and len(graph.users[value]) == 1
        for value in own
    ):
        return None
    users = graph.users.get(linear.result, ())
    if len(users) != 1 or users[0].operator != "reshape" or linear.result in graph.outputs:
        return None
    (reshape,) = users
    rows = linear.result.type.shape[:lead]
    cuts = graph.users.get(reshape.result, ())
    if reshape.result.type.shape[:lead] != rows or reshape.result in graph.outputs or len(cuts) < 2:
        return None
    is_cut = all(cut.operator == "slice" and int(str(cut.attributes["axis"])) > lead for cut in cuts)
    if not is_cut:
        return None
    return _Split(linear, reshape, cuts)
