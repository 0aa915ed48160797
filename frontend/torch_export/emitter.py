"""Emits operations and leaves out those that undo each other or move nothing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from ...ir.graph import Value
from ...ir.operator import Attribute
from ...ir.types import Dim
from ..models.builder import ModelBuilder, scalar

__all__ = ["Emitter"]


class Emitter:
    """A builder in which the same operation over the same operands is one operation.

    Attributes:
        made: operator, operands and attributes of each value that was emitted.
        node: what is being converted.
        nodes: what was when each value was emitted.
    """

    def __init__(self, builder: ModelBuilder) -> None:
        self.builder = builder
        self._known: dict[Hashable, Value] = {}
        self._several: dict[Hashable, tuple[Value, ...]] = {}
        self.made: dict[Value, tuple[str, tuple[Value, ...], Mapping[str, Attribute]]] = {}
        self._moved: dict[Value, tuple[str, Value, tuple[Dim, ...]]] = {}
        self.node: torch.fx.Node | None = None
        self.nodes: dict[Value, torch.fx.Node] = {}

    def __call__(self, operator: str, *operands: Value, **attributes: Attribute) -> Value:
        """Apply an operator of one result."""
        key = operator, operands, tuple(sorted(attributes.items()))
        if key not in self._known:
            self._known[key] = self.builder.apply(operator, operands, attributes)[0]
            self._note((self._known[key],), operator, operands, attributes)
        return self._known[key]

    def all(self, operator: str, *operands: Value, **attributes: Attribute) -> tuple[Value, ...]:
        """Apply an operator of several results."""
        key = operator, operands, tuple(sorted(attributes.items()))
        if key not in self._several:
            self._several[key] = self.builder.apply(operator, operands, attributes)
            self._note(self._several[key], operator, operands, attributes)
        return self._several[key]

    def _note(
        self,
        results: tuple[Value, ...],
        operator: str,
        operands: tuple[Value, ...],
        attributes: Mapping[str, Attribute],
    ) -> None:
        self.made.update(dict.fromkeys(results, (operator, operands, attributes)))
        if self.node is not None:
            self.nodes.update(dict.fromkeys(results, self.node))

    def number(self, number: float) -> Value:
        """A number as a constant of one element."""
        return self.constant(scalar(number))

    def constant(self, array: npt.NDArray[np.generic]) -> Value:
        """A constant."""
        key = "constant", array.dtype.name, array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = self.builder.constant(array)
        return self._known[key]

    def reshape(self, value: Value, shape: Sequence[Dim]) -> Value:
        """``value`` in another shape, from as far back as nothing but shapes changed."""
        shape = tuple(shape)
        while value in self._moved and self._moved[value][0] == "reshape" and value.type.shape != shape:
            value = self._moved[value][1]
        if value.type.shape == shape:
            return value
        result = self("reshape", value, shape=shape)
        self._moved[result] = "reshape", value, shape
        return result

    def transpose(self, value: Value, axes: Sequence[int]) -> Value:
        """``value`` with its axes in another order; moving axes of 1 is a reshape."""
        axes = tuple(axes)
        if value in self._moved and self._moved[value][0] == "transpose":
            _, source, inner = self._moved[value]
            return self.transpose(source, [int(inner[axis]) for axis in axes])
        long = [axis for axis in axes if value.type.shape[axis] != 1]
        if long == sorted(long):
            return self.reshape(value, [value.type.shape[axis] for axis in axes])
        result = self("transpose", value, axes=axes)
        self._moved[result] = "transpose", value, axes
        return result

    def slice(self, value: Value, axis: int, start: int, stop: int) -> Value:
        """Elements ``start`` to ``stop - 1`` along an axis."""
        if (start, stop) == (0, value.type.shape[axis]):
            return value
        return self("slice", value, axis=axis, start=start, stop=stop)

    def repeat(self, value: Value, axis: int, times: int) -> Value:
        """Each element along an axis so many times in a row."""
        return value if times == 1 else self("repeat", value, axis=axis, times=times)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Values joined along an axis."""
        return values[0] if len(values) == 1 else self("concat", *values, axis=axis)
