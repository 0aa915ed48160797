"""Weights in quantization formats, and rows rounded on their way to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir import Module, Operation, QuantFormat, TensorType, Value, find_format
from .assignment import Assignment, assign_formats, weight_of
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["QuantizeWeights", "activations_for"]

_LEAST_GROUP = 16
"""Products of codes that are worth adding up as whole numbers; smaller groups meet rows of floats."""

_LONGEST_SUM = (2**31 - 1) // (128 * 128)
"""Products of two codes of eight bits whose sum is sure to fit 32."""


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Quantize the weights of linears and embeddings as ``assignment`` says.

    A weight that an embedding and the head share stays one parameter where their formats are the same. A
    weight whose rows are no whole number of groups stays as it is; a note says so. So does that of a router.
    """

    assignment: Assignment

    name: ClassVar[str] = "quantize_weights"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized")
    ensures: ClassVar[str | None] = "quantized"

    @property
    def preserves_values(self) -> bool:
        """It rounds."""
        return False

    def rewrite(self, module: Module) -> Rewritten:
        """See the class; raises :class:`CompileError` where the assignment does not fit the model."""
        wanted, notes = assign_formats(module, self.assignment)
        if not wanted:
            return Rewritten(module, notes)
        quantizing = _Quantizing(module)
        for operation in module.forward.operations:
            quantizing.visit(operation, wanted.get(operation))
        return Rewritten(quantizing.finish(), notes)


def activations_for(weight: TensorType) -> QuantFormat | None:
    """The format of rows that meet a quantized ``weight``; None for those that stay floats.

    Rows are rounded where codes of the weight are whole numbers, so that products of codes are exact: with
    one scale where the weight's rows have one too, and the whole product is one exact sum; else in groups.
    They are, too, where the weight's format says so.
    """
    element, width = weight.element, weight.shape[-1]
    in_groups = find_format("dynamic_int8_g32")
    if not isinstance(element, QuantFormat) or not isinstance(width, int) or width % in_groups.block_size:
        return None
    if element.rows is not None:
        return find_format(element.rows)
    size = element.group_size or in_groups.block_size
    if size < _LEAST_GROUP or (element.is_whole_by_row and width > _LONGEST_SUM):
        return None
    rows = find_format("dynamic_int8_row") if element.is_whole_by_row else in_groups
    return rows if element.multiplies(rows) else None


class _Quantizing:
    def __init__(self, module: Module) -> None:
        self._rewriter = ModuleRewriter(module)
        self._weights: dict[tuple[Value, QuantFormat], Value] = {}
        self._rows: dict[tuple[Value, QuantFormat], Value] = {}

    def visit(self, operation: Operation, quant_format: QuantFormat | None) -> None:
        """Copy ``operation``, with its weight in ``quant_format`` if there is one."""
        forward = self._rewriter.forward
        if quant_format is None:
            forward.copy(operation)
            return
        weight = self._quantized(weight_of(operation), quant_format)
        if operation.operator == "embedding":
            forward.emit("embedding", weight, operation.operands[1], replaces=operation.result)
            return
        rows = self._rounded(operation.operands[0], activations_for(weight.type))
        forward.emit(operation.operator, rows, weight, *operation.operands[2:], replaces=operation.result)

    def _rounded(self, rows: Value, quant_format: QuantFormat | None) -> Value:
        """``rows`` in ``quant_format``, once for all that take them so."""
        if quant_format is None:
            return rows
        key = rows, quant_format
        if key not in self._rows:
            self._rows[key] = self._rewriter.forward.emit("quantize", rows, format=quant_format.name)
        return self._rows[key]

    def _quantized(self, weight: Value, quant_format: QuantFormat) -> Value:
        key = weight, quant_format
        if key not in self._weights:
            name = f"{weight.name}.{quant_format.name}"
            prepared = self._rewriter.prepared(weight)
            made = self._rewriter.compute("quantize", prepared, name=name, format=quant_format.name)
            self._weights[key] = self._rewriter.add_parameter(made)
        return self._weights[key]

    def finish(self) -> Module:
        """The rewritten module."""
        return self._rewriter.finish()
