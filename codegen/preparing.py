"""Parameters of the step: computed from the checkpoint one at a time, and packed as the kernels take them.

A module's prepare graph says what each parameter is; the interpreter computes it. What that would take
minutes for, searching the scales of quantized weights, a kernel compiled for this host does instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import ml_dtypes
import numpy as np
import numpy.typing as npt
import tvm

from ..ir import (
    Array,
    Attribute,
    Graph,
    Module,
    Operation,
    QuantFormat,
    QuantizedArray,
    TensorType,
    Value,
    evaluate,
    find_format,
    find_operator,
)
from ..targets import CPUS, Target, parse_target
from .kernels.layout import BLOCK, Component, Layout, components, pack
from .kernels.quantize_weights import quantize_weight
from .library import llvm_target
from .lowering import parameter_layouts

__all__ = ["PackedParameter", "Tensors", "pack_parameters"]


class Tensors(Protocol):
    """A checkpoint's tensors by name, quantized ones perhaps among them."""

    @property
    def names(self) -> Sequence[str]:
        """All of them."""
        ...

    def read(self, name: str) -> Array:
        """A tensor's values."""
        ...


@dataclass(frozen=True, slots=True)
class PackedParameter:
    """A parameter and the arrays that store it."""

    parameter: Value
    layout: Layout
    arrays: tuple[npt.NDArray[np.generic], ...]


def pack_parameters(module: Module, weights: Tensors) -> Iterator[PackedParameter]:
    """Each parameter of ``module``'s step, computed when it is asked for, in order of use."""
    definitions = dict(zip((p.name for p in module.forward.parameters), module.prepare.outputs, strict=True))
    quantizer = _Quantizer()
    tensors = _Tensors(weights)
    for parameter, layout in parameter_layouts(module.forward).items():
        value = definitions[parameter.name]
        producer = module.prepare.producers.get(value)
        quant_format = None
        if producer is not None and producer.operator == "quantize" and layout is Layout.BLOCKED:
            quant_format, value = find_format(str(producer.attributes["format"])), producer.operands[0]
        if layout is Layout.BLOCKED and value.type.rank == 3:
            parts = _Experts(module.prepare, tensors).each(value)
            arrays = _pack_experts(parts, parameter.type, quant_format, quantizer)
        else:
            source = _compute(module.prepare, value, tensors)
            arrays = _pack(source, parameter.type, layout, quant_format, quantizer)
        yield PackedParameter(parameter, layout, arrays)


def _pack(
    source: Array,
    type_: TensorType,
    layout: Layout,
    quant_format: QuantFormat | None,
    quantizer: _Quantizer,
) -> tuple[npt.NDArray[np.generic], ...]:
    """The arrays that store a parameter of ``type_``, quantized on the way where there is a format."""
    if quant_format is None:
        return pack(source, layout)
    assert not isinstance(source, QuantizedArray)
    return quantizer.pack(source, quant_format, components(type_, layout))


def _pack_experts(
    sources: Iterator[Array],
    type_: TensorType,
    quant_format: QuantFormat | None,
    quantizer: _Quantizer,
) -> tuple[npt.NDArray[np.generic], ...]:
    """The same for weights ``[experts, outputs, inputs]``, expert after expert."""
    count, *matrix = (int(dim) for dim in type_.shape)
    of_one = type_.with_shape(*matrix)
    arrays = tuple(np.empty(part.shape, part.dtype) for part in components(type_, Layout.BLOCKED))
    for expert, source in enumerate(sources):
        packed = _pack(source, of_one, Layout.BLOCKED, quant_format, quantizer)
        for array, part in zip(arrays, packed, strict=True):
            array.reshape(count, *part.shape)[expert] = part
    return arrays


class _Tensors(Mapping[str, Array]):
    """A checkpoint's tensors, read when they are looked up."""

    def __init__(self, weights: Tensors) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Array:
        return self._weights.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights.names)

    def __len__(self) -> int:
        return len(self._weights.names)


def _compute(graph: Graph, value: Value, tensors: Mapping[str, Array]) -> Array:
    """One value of a prepare graph: only what it needs is computed."""
    (result,) = evaluate(_slice(graph, value), tensors)
    return result


class _Experts:
    """Values ``[experts, ...]`` of a prepare graph, taken apart: one expert's part is held at a time."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Array]) -> None:
        self._graph = graph
        self._tensors = tensors
        self._whole: dict[Value, Array] = {}

    def each(self, value: Value) -> Iterator[Array]:
        """What each expert has of ``value``, computed when it is asked for."""
        return (self._part(value, expert)[0] for expert in range(int(value.type.shape[0])))

    def _part(self, value: Value, expert: int) -> Array:
        """``value[expert : expert + 1]``."""
        operation = self._graph.producers.get(value)
        if operation is None:
            return self._tensors[value.name][expert : expert + 1]
        if operation.operator == "stack":
            return _compute(self._graph, operation.operands[expert], self._tensors)[np.newaxis]
        attributes = _attributes_for_one(operation)
        if attributes is None:  # its parts cannot be told apart
            if value not in self._whole:
                self._whole[value] = _compute(self._graph, value, self._tensors)
            return self._whole[value][expert : expert + 1]
        parts = [self._part(operand, expert) for operand in operation.operands]
        (array,) = find_operator(operation.operator).evaluate(parts, attributes, {})
        return array


def _attributes_for_one(operation: Operation) -> Mapping[str, Attribute] | None:
    """The attributes with which ``operation`` works on one expert's part; None where it mixes them."""
    attributes = operation.attributes
    shape = operation.result.type.shape
    match operation.operator:
        case "cast":
            return attributes
        case "concat" | "slice" if attributes["axis"] != 0:
            return attributes
        case "transpose" if attributes["axes"][0] == 0:  # type: ignore[index]
            return attributes
        case "reshape" if operation.operands[0].type.shape[0] == shape[0]:
            return {"shape": (1, *shape[1:])}
    return None


def _slice(graph: Graph, value: Value) -> Graph:
    """The part of ``graph`` that ``value`` depends on."""
    needed: list[Operation] = []
    wanted = {value}
    for operation in reversed(graph.operations):
        if wanted.intersection(operation.results):
            needed.append(operation)
            wanted.update(operation.operands)
    inputs = tuple(argument for argument in graph.inputs if argument in wanted)
    return Graph(inputs, (), (), tuple(reversed(needed)), (value,))


class _Quantizer:
    """Kernels that quantize weights, compiled for this host as they are needed."""

    def __init__(self) -> None:
        self._kernels: dict[tuple[str, QuantFormat], tvm.runtime.Executable] = {}

    def pack(
        self, source: npt.NDArray[np.generic], quant_format: QuantFormat, parts: tuple[Component, ...]
    ) -> tuple[npt.NDArray[np.generic], ...]:
        """Codes and scales of ``source`` ``[n, k]`` in the blocked layout."""
        if source.dtype == ml_dtypes.bfloat16:
            source = source.view(np.uint16)
        key = source.dtype.name, quant_format
        if key not in self._kernels:
            function = quantize_weight("quantize", source.dtype.name, quant_format)
            module = tvm.IRModule({"quantize": function})
            self._kernels[key] = tvm.compile(module, target=llvm_target(_baseline()))
        arrays = tuple(np.zeros(part.shape, part.dtype) for part in parts)
        results = [tvm.runtime.tensor(array) for array in arrays]
        self._kernels[key]["quantize"](tvm.runtime.tensor(np.ascontiguousarray(source)), *results)
        codes, scales = (result.numpy() for result in results)
        _fill_missing_rows(codes, source.shape[0], quant_format)
        return codes, scales


def _baseline() -> Target:
    """The least instruction set of this host's kind, so that all hosts of a kind round alike."""
    host = parse_target("cpu")
    fitting = [t for t in CPUS.values() if (t.system, t.machine) == (host.system, host.machine)]
    return min(fitting, key=lambda target: target.rank)


def _fill_missing_rows(codes: npt.NDArray[np.generic], rows: int, quant_format: QuantFormat) -> None:
    """Give the rows that fill the last block the code of zero."""
    missing = -rows % BLOCK
    if missing:
        zero = 1 << (quant_format.bits - 1)
        byte = zero | zero << 4 if quant_format.bits == 4 else zero
        codes[-1].reshape(-1, BLOCK, 4)[:, BLOCK - missing :] = byte
