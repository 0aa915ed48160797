"""A model cut into its layers, so that one at a time is held and computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...ir import Array, Graph, Module, Operation, QuantizedArray, ScalarType, Value, evaluate
from ..assignment import layer_of, tensors_of
from ..rewriting import prune_operations

__all__ = ["Arrays", "Layer", "Reader", "Tokens", "cut_layers", "read_parameters", "run_layer"]

Arrays = dict[str, Array]
"""Arrays by the name of the value they are of."""

Tokens = npt.NDArray[np.int32]

Reader = Callable[[str], Array]
"""Gives a checkpoint's tensors by name."""


@dataclass(frozen=True)
class Layer:
    """A part of a model.

    ``graph`` takes the model's inputs and what earlier parts made, and gives what later ones use of what it
    makes; the last part gives the model's outputs. ``passed`` are values of earlier parts that only later
    ones use. ``number`` is the layer's, None before the first and behind the last.
    """

    number: int | None
    graph: Graph
    passed: frozenset[str]


def cut_layers(module: Module) -> tuple[Layer, ...]:
    """The parts of ``module``'s forward over a whole sequence, in order.

    An operation belongs to the layer that its parameters are of. One that has none goes with what is before
    it; those behind the last layer's are a part of their own.
    """
    graph = module.forward
    parts: list[tuple[int | None, list[Operation]]] = []
    for operation, number in zip(graph.operations, _numbers(module), strict=True):
        if not parts or parts[-1][0] != number:
            parts.append((number, []))
        parts[-1][1].append(operation)
    made_in = {
        result: index
        for index, (_, operations) in enumerate(parts)
        for operation in operations
        for result in operation.results
    }
    last_use = dict.fromkeys(graph.outputs, len(parts))
    for index, (_, operations) in enumerate(parts):
        for operation in operations:
            for operand in operation.operands:
                last_use[operand] = max(index, last_use.get(operand, 0))
    return tuple(
        _part(graph, number, operations, index == len(parts) - 1, index, made_in, last_use)
        for index, (number, operations) in enumerate(parts)
    )


def _part(
    graph: Graph,
    number: int | None,
    operations: list[Operation],
    is_last: bool,
    index: int,
    made_in: Mapping[Value, int],
    last_use: Mapping[Value, int],
) -> Layer:
    used = dict.fromkeys(operand for operation in operations for operand in operation.operands)
    if is_last:
        used.update(dict.fromkeys(graph.outputs))
    before = [value for value in used if made_in.get(value, index) < index]
    made = [result for operation in operations for result in operation.results]
    passed = [value.name for value, place in made_in.items() if place < index < last_use.get(value, -1)]
    return Layer(
        number,
        Graph(
            inputs=(*graph.inputs, *before),
            states=(),
            parameters=tuple(value for value in graph.parameters if value in used),
            operations=tuple(operations),
            outputs=graph.outputs if is_last else tuple(v for v in made if last_use.get(v, -1) > index),
        ),
        frozenset(passed),
    )


def _numbers(module: Module) -> Iterator[int | None]:
    """The layer of each operation."""
    tensors = tensors_of(module)
    own = []
    for operation in module.forward.operations:
        layers = (layer_of(tensors[operand]) for operand in operation.operands if operand in tensors)
        own.append(next((number for number in layers if number is not None), None))
    last = max((index for index, number in enumerate(own) if number is not None), default=-1)
    current = None
    for index, number in enumerate(own):
        current = None if index > last else current if number is None else number
        yield current


def read_parameters(module: Module, names: Iterable[str], read: Reader) -> Arrays:
    """Parameters of ``module``'s forward, computed from the checkpoint.

    Matrices are float32, but for those that rows are only looked up in, which stay as they are stored.
    """
    wanted = set(names)
    outputs = tuple(value for value in module.prepare.outputs if value.name in wanted)
    graph = prune_operations(replace(module.prepare, outputs=outputs))
    needed = {operand for operation in graph.operations for operand in operation.operands}.union(outputs)
    graph = replace(graph, inputs=tuple(value for value in graph.inputs if value in needed))
    arrays = evaluate(graph, {value.name: read(value.name) for value in graph.inputs})
    multiplied = {
        operand.name
        for operation in module.forward.operations
        if operation.operator != "embedding"
        for operand in operation.operands
    }
    return {
        value.name: _as_float32(array) if value.name in multiplied else array
        for value, array in zip(outputs, arrays, strict=True)
    }


def _as_float32(array: Array) -> Array:
    if isinstance(array, QuantizedArray) or not ScalarType.of(array).is_float:
        return array
    return np.ascontiguousarray(array, np.float32)


def run_layer(
    layer: Layer,
    parameters: Mapping[str, Array],
    kept: Mapping[str, Array],
    token_ids: Tokens,
    observe: Callable[[str, Array], None] | None = None,
) -> Arrays:
    """What is kept for the layers behind ``layer``, of what was ``kept`` before it, for one sequence.

    Behind the last these are the model's outputs. ``observe`` is shown each value by name, those that come
    in first.
    """
    count = len(token_ids)
    inputs = {
        "token_ids": token_ids,
        "positions": np.arange(count, dtype=np.int32),
        "token_types": np.zeros(count, np.int32),
    }
    if observe is not None:
        for value in layer.graph.inputs:
            if value.name in kept:
                observe(value.name, kept[value.name])
    results = evaluate(layer.graph, {**inputs, **kept, **parameters}, observe=observe)
    passed = {name: array for name, array in kept.items() if name in layer.passed}
    made = {value.name: array for value, array in zip(layer.graph.outputs, results, strict=True)}
    return {**passed, **made}
