"""Graphs in static single assignment: frozen operations over typed values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from .errors import IRError
from .operator import Attribute, find_operator
from .types import Dim, Element, TensorType

__all__ = ["Graph", "GraphBuilder", "Module", "Operation", "Value"]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """What an operation or a graph's signature defines; two values are equal only if they are one object."""

    name: str
    type: TensorType

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True, eq=False)
class Operation:
    """One application of the operator called ``operator``."""

    operator: str
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def result(self) -> Value:
        """The only result; raises :class:`IRError` where there are several."""
        if len(self.results) != 1:
            raise IRError(f"{self.operator} has {len(self.results)} results where one is expected")
        return self.results[0]


@dataclass(frozen=True, eq=False)
class Graph:
    """Operations in an order in which each follows what it uses.

    ``inputs`` change from run to run, ``states`` are written by the run and kept for the next (KV pages),
    ``parameters`` are the same in every run (weights).
    """

    inputs: tuple[Value, ...]
    states: tuple[Value, ...]
    parameters: tuple[Value, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Value, ...]

    @cached_property
    def producers(self) -> Mapping[Value, Operation]:
        """The operation that defines each value; the signature's values have none."""
        return {result: operation for operation in self.operations for result in operation.results}

    @cached_property
    def users(self) -> Mapping[Value, tuple[Operation, ...]]:
        """The operations that use each value; the graph's outputs are not counted."""
        users: dict[Value, list[Operation]] = {}
        for operation in self.operations:
            for operand in dict.fromkeys(operation.operands):
                users.setdefault(operand, []).append(operation)
        return {value: tuple(operations) for value, operations in users.items()}

    @property
    def signature(self) -> Iterator[Value]:
        """Inputs, states and parameters."""
        yield from self.inputs
        yield from self.states
        yield from self.parameters


@dataclass(frozen=True, eq=False)
class Module:
    """A model at one stage of its way.

    ``prepare`` runs once, at compile time: its inputs are the checkpoint's tensors by name, its outputs are
    ``forward``'s parameters, in order. ``forward`` is the model: first over one whole sequence, after paging
    one step over a ragged batch. Both share the names of values, not the values.
    """

    name: str
    stage: str
    prepare: Graph
    forward: Graph

    def with_forward(self, forward: Graph) -> Module:
        """This module with another forward graph."""
        return replace(self, forward=forward)


class GraphBuilder:
    """Makes a graph operation by operation, inferring types and naming values."""

    def __init__(self) -> None:
        self._inputs: list[Value] = []
        self._states: list[Value] = []
        self._parameters: dict[str, Value] = {}
        self._operations: list[Operation] = []
        self._names: set[str] = set()

    def _name(self, wanted: str | None) -> str:
        if wanted is None:
            number = len(self._names)
            while str(number) in self._names:
                number += 1
            wanted = str(number)
        elif wanted in self._names:
            number = 1
            while f"{wanted}.{number}" in self._names:
                number += 1
            wanted = f"{wanted}.{number}"
        self._names.add(wanted)
        return wanted

    def input(self, name: str, shape: Sequence[Dim], element: Element) -> Value:
        """A new input."""
        value = Value(self._name(name), TensorType(tuple(shape), element))
        self._inputs.append(value)
        return value

    def state(self, name: str, shape: Sequence[Dim], element: Element) -> Value:
        """A new state."""
        value = Value(self._name(name), TensorType(tuple(shape), element))
        self._states.append(value)
        return value

    def parameter(self, name: str, type_: TensorType) -> Value:
        """The parameter called ``name``, made on first use (tied weights are one parameter)."""
        if name in self._parameters:
            return self._parameters[name]
        value = Value(self._name(name), type_)
        self._parameters[name] = value
        return value

    def reserve(self, names: Iterable[str]) -> None:
        """Keep ``names`` for operations that :meth:`append` will bring: no other value gets one."""
        self._names.update(names)

    def release(self, name: str) -> None:
        """Let another value have a reserved name, whose operation will not come after all."""
        self._names.discard(name)

    def declare(self, inputs: Iterable[Value], states: Iterable[Value], parameters: Iterable[Value]) -> None:
        """Take over an existing graph's signature, as a rewriting pass does."""
        self._inputs.extend(inputs)
        self._states.extend(states)
        self._parameters.update({value.name: value for value in parameters})
        self._names.update(value.name for value in (*self._inputs, *self._states, *self._parameters.values()))

    def apply(
        self,
        operator: str,
        operands: Sequence[Value],
        attributes: Mapping[str, Attribute],
        names: Sequence[str | None] = (),
    ) -> tuple[Value, ...]:
        """Apply ``operator``; its results, with types inferred. Raises :class:`IRError` on a misfit."""
        definition = find_operator(operator)
        definition.check(operands, attributes)
        types = definition.infer([operand.type for operand in operands], attributes)
        wanted = (*names, *[None] * (len(types) - len(names)))
        results = tuple(Value(self._name(name), type_) for name, type_ in zip(wanted, types, strict=True))
        self._operations.append(
            Operation(operator, tuple(operands), results, MappingProxyType(dict(attributes)))
        )
        return results

    def emit_all(
        self, operator: str, *operands: Value, names: Sequence[str | None] = (), **attributes: Attribute
    ) -> tuple[Value, ...]:
        """:meth:`apply`, written like a call."""
        return self.apply(operator, operands, attributes, names)

    def emit(
        self, operator: str, *operands: Value, name: str | None = None, **attributes: Attribute
    ) -> Value:
        """Apply an ``operator`` of one result."""
        (result,) = self.emit_all(operator, *operands, names=(name,), **attributes)
        return result

    def constant(self, array: npt.NDArray[np.generic] | np.generic, name: str | None = None) -> Value:
        """A small array, or a scalar of numpy's, as part of the graph's text."""
        return self.emit("constant", name=name, value=np.asarray(array))

    def append(self, operation: Operation) -> None:
        """Take over an operation as it is, its results' names included."""
        self._names.update(result.name for result in operation.results)
        self._operations.append(operation)

    def build(self, *outputs: Value) -> Graph:
        """The graph that returns ``outputs``."""
        return Graph(
            tuple(self._inputs),
            tuple(self._states),
            tuple(self._parameters.values()),
            tuple(self._operations),
            outputs,
        )
