"""Compute once what is the same in every run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir import Module, Operation, Value, find_operator, find_stage
from .base import Pass, Rewritten
from .rewriting import ModuleRewriter

__all__ = ["FoldConstants"]


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Evaluate operations over constants alone, and move those over parameters to prepare.

    A folded constant of more than ``largest_constant`` elements is computed in prepare as well, so that the
    module's text stays small.
    """

    largest_constant: int = 256

    name: ClassVar[str] = "fold_constants"

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        legal = find_stage(module.stage).prepare_operators
        folding = _Folding(module, self.largest_constant, legal)
        for operation in module.forward.operations:
            folding.visit(operation)
        return Rewritten(folding.finish() if folding.found else module)


class _Folding:
    def __init__(self, module: Module, largest_constant: int, legal: frozenset[str]) -> None:
        self._largest_constant = largest_constant
        self._legal = legal
        self._rewriter = ModuleRewriter(module)
        self._outputs = module.forward.outputs
        self._constants: dict[Value, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
        self._static: dict[Value, Value] = {}  # computed in prepare, and there is this
        self._in_prepare: dict[Value, Value] = {}  # constants of forward that prepare has too
        self.found = False

    def visit(self, operation: Operation) -> None:
        """Fold, move or copy one operation."""
        operands = operation.operands
        if operation.operator == "constant":
            self._constants[operation.result] = np.asarray(operation.attributes["value"])
            self._rewriter.forward.copy(operation)
        elif operation.operator not in self._legal or not all(map(self._is_static, operands)):
            for operand in operands:
                self._need(operand)
            self._rewriter.forward.copy(operation)
        elif all(operand in self._constants for operand in operands) and self._is_small(operation):
            self._fold(operation)
        else:
            self._move(operation)

    def finish(self) -> Module:
        """The rewritten module."""
        for output in self._outputs:
            self._need(output)
        return self._rewriter.finish()

    def _is_static(self, value: Value) -> bool:
        return value in self._constants or value in self._static or self._rewriter.is_parameter(value)

    def _is_small(self, operation: Operation) -> bool:
        sizes = [dim for result in operation.results for dim in result.type.shape]
        return math.prod(int(size) for size in sizes) <= self._largest_constant

    def _fold(self, operation: Operation) -> None:
        arrays = [self._constants[operand] for operand in operation.operands]
        (array,) = find_operator(operation.operator).evaluate(arrays, operation.attributes, {})
        folded = np.asarray(array)
        self._constants[operation.result] = folded
        self._rewriter.forward.emit("constant", replaces=operation.result, value=folded)
        self.found = True

    def _move(self, operation: Operation) -> None:
        operands = [self._prepared(operand) for operand in operation.operands]
        suffix = str(operation.attributes["to"]) if operation.operator == "cast" else operation.operator
        sources = [value.name for value in operands if value not in self._in_prepare.values()]
        name = f"{sources[0]}.{suffix}" if sources else operation.result.name
        self._static[operation.result] = self._rewriter.compute(
            operation.operator, *operands, name=name, **operation.attributes
        )
        self.found = True

    def _prepared(self, value: Value) -> Value:
        if value in self._static:
            return self._static[value]
        if value in self._constants:
            if value not in self._in_prepare:
                constant = self._rewriter.compute("constant", name=value.name, value=self._constants[value])
                self._in_prepare[value] = constant
            return self._in_prepare[value]
        return self._rewriter.prepared(value)

    def _need(self, value: Value) -> None:
        """Make a parameter of ``value`` where an operation that stays in forward uses it."""
        if value in self._static and self._rewriter.forward.now(value) is value:
            self._rewriter.forward.replace(value, self._rewriter.add_parameter(self._static[value]))
