"""The reference interpreter: numpy gives every operator its meaning, at every stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .errors import IRError
from .graph import Graph
from .operator import Array, find_operator
from .quantization import QuantizedArray
from .types import ScalarType, TensorType, bind_shape

__all__ = ["bind_symbols", "evaluate", "filled"]


def filled(type_: TensorType, symbols: Mapping[str, int], number: float) -> Array:
    """An array of ``type_`` that is ``number`` throughout; in a quantization format 0, or NaN for NaN."""
    shape = bind_shape(type_.shape, symbols)
    if isinstance(type_.element, ScalarType):
        return np.full(shape, number, type_.element.numpy)
    arrays = {}
    for component in type_.element.components:
        width = 1 if component.size is None else shape[-1] // component.size
        content = number if component.dtype.kind == "f" else 0
        arrays[component.name] = np.full((*shape[:-1], width), content, component.dtype)
    return QuantizedArray(type_.element, **arrays)


def bind_symbols(graph: Graph, arrays: Mapping[str, Array]) -> dict[str, int]:
    """The numbers that ``arrays``, by name of the graph's inputs and states, give its symbols.

    Raises :class:`IRError` where an array is missing, does not have its value's shape, or two disagree on a
    symbol.
    """
    symbols: dict[str, int] = {}
    for value in (*graph.inputs, *graph.states):
        if value.name not in arrays:
            raise IRError(f"input '{value.name}' ({value.type}) is not given")
        _check_shape(value.name, value.type, arrays[value.name], symbols)
    return symbols


def _check_shape(name: str, type_: TensorType, array: Array, symbols: dict[str, int]) -> None:
    if len(array.shape) != type_.rank:
        raise IRError(f"'{name}' has shape {array.shape} where {type_} is expected")
    for dim, size in zip(type_.shape, array.shape, strict=True):
        known = symbols.setdefault(dim, size) if isinstance(dim, str) else dim
        if known != size:
            raise IRError(f"'{name}' has shape {array.shape} where {type_} is expected ({dim} is {known})")


def evaluate(
    graph: Graph,
    arrays: Mapping[str, Array],
    *,
    parameter: Callable[[str], Array] | None = None,
    observe: Callable[[str, Array], None] | None = None,
) -> tuple[Array, ...]:
    """Run ``graph`` and return its outputs.

    ``arrays`` holds inputs and states by name, and parameters unless ``parameter`` fetches one by name when
    it is needed. Values are dropped after their last use. ``observe`` is shown each result by name.
    """
    symbols = bind_symbols(graph, arrays)
    known: dict[object, Array] = {value: arrays[value.name] for value in (*graph.inputs, *graph.states)}
    parameters = {value: value.name for value in graph.parameters}
    outputs = set(graph.outputs)
    last_use = {
        operand: index for index, operation in enumerate(graph.operations) for operand in operation.operands
    }

    def fetch(value: object) -> Array:
        if value not in known:
            name = parameters[value]  # type: ignore[index]
            known[value] = arrays[name] if parameter is None else parameter(name)
        return known[value]

    for index, operation in enumerate(graph.operations):
        operands = [fetch(operand) for operand in operation.operands]
        results = find_operator(operation.operator).evaluate(operands, operation.attributes, symbols)
        for value, array in zip(operation.results, results, strict=True):
            _check_shape(value.name, value.type, array, symbols)
            if isinstance(array, QuantizedArray) != (not hasattr(value.type.element, "numpy")):
                raise IRError(f"{operation.operator}: '{value.name}' should be {value.type}")
            known[value] = array
            if observe is not None:
                observe(value.name, array)
        for operand in operation.operands:
            if last_use[operand] == index and operand not in outputs:
                known.pop(operand, None)
    return tuple(fetch(value) for value in graph.outputs)
