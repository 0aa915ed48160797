"""A graph builder that knows the checkpoint: a parameter is asked for by name and shape, and has its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from ...ir.errors import WeightError
from ...ir.graph import Graph, GraphBuilder, Value
from ...ir.types import ScalarType, TensorType

__all__ = ["ModelBuilder", "scalar"]


def scalar(number: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """``number`` as float32 ``[1]``, the form of all constants that are single numbers."""
    return np.array([number], np.float32)


class ModelBuilder(GraphBuilder):
    """Makes a graph whose parameters are the tensors of a checkpoint.

    ``declare_parameter(name, shape)`` gives a tensor's type and takes note of what is asked for;
    ``holds(name)`` says whether there is such a tensor. ``orders`` has, by the names of weights whose columns
    are kept in another order than that of the inputs, the name of the tensor that says in which. ``renamed``
    gives the name that a tensor has in the checkpoint.
    """

    def __init__(
        self,
        declare_parameter: Callable[[str, tuple[int, ...]], TensorType],
        holds: Callable[[str], bool] = lambda name: False,
        orders: Mapping[str, str] = MappingProxyType({}),
        renamed: Callable[[str], str] = str,
    ) -> None:
        super().__init__()
        self._declare_parameter = declare_parameter
        self._holds = holds
        self._orders = orders
        self._renamed = renamed
        self._arranged: set[str] = set()

    def holds(self, name: str) -> bool:
        """Whether the checkpoint has a tensor ``name``, for what can be stored in more than one way."""
        return self._holds(self._renamed(name))

    def weight(self, name: str, *shape: int) -> Value:
        """The parameter ``name`` of this shape, in the checkpoint's type.

        Raises:
            WeightError: its columns are in another order than the inputs, and rows were not :meth:`arranged`.
        """
        name = self._renamed(name)
        if name in self._orders and name not in self._arranged:
            raise WeightError(
                f"the columns of '{name}' are in an order of their own (act-order), which is supported for "
                "linear layers, and not for experts or what else reads a weight"
            )
        return self.parameter(name, self._declare_parameter(name, shape))

    def arranged(self, x: Value, name: str) -> Value:
        """Rows ``x`` in the order that the columns of the weight ``name`` are in."""
        name = self._renamed(name)
        if name not in self._orders:
            return x
        self._arranged.add(name)
        type_ = TensorType(x.type.shape[-1:], ScalarType.INT32)
        return self.emit("permute_columns", x, self.parameter(self._orders[name], type_))

    def float32_weight(self, name: str, *shape: int) -> Value:
        """The parameter ``name`` of this shape, cast to float32 where it is of another type."""
        weight = self.weight(name, *shape)
        return (
            weight if weight.type.element is ScalarType.FLOAT32 else self.emit("cast", weight, to="float32")
        )


def identity(parameters: tuple[Value, ...]) -> Graph:
    """The graph that returns what it is given, by these names and types."""
    builder = GraphBuilder()
    return builder.build(
        *(builder.input(value.name, value.type.shape, value.type.element) for value in parameters)
    )
