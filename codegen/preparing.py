"""Parameters of the step: computed from the checkpoint one at a time, and packed as the kernels take them.

A module's prepare graph says what each parameter is; the interpreter computes it. What that would take
minutes for, searching the scales of quantized weights, a kernel compiled for this host does instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    find_format,
    find_operator,
    quantize,
)
from ..targets import CPUS, Target, detect_host, parse_target
from .kernels.layout import Layout, components, pack
from .kernels.quantize_weights import can_quantize, quantize_weight
from .library import llvm_target
from .lowering import parameter_layouts

__all__ = ["PackedParameter", "Tensors", "pack_parameters", "parameter_values"]


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


def parameter_values(module: Module, weights: Tensors) -> Callable[[str], Array]:
    """What computes a parameter of ``module``'s step by its name."""
    definitions = dict(zip((p.name for p in module.forward.parameters), module.prepare.outputs, strict=True))
    computing = _Computing(module.prepare, _Tensors(weights))
    return lambda name: computing.compute(definitions[name])


def pack_parameters(module: Module, weights: Tensors) -> Iterator[PackedParameter]:
    """Each parameter of ``module``'s step, computed when it is asked for, in order of use."""
    definitions = dict(zip((p.name for p in module.forward.parameters), module.prepare.outputs, strict=True))
    computing = _Computing(module.prepare, _Tensors(weights))
    for parameter, layout in parameter_layouts(module.forward).items():
        value = definitions[parameter.name]
        if layout is Layout.BLOCKED and value.type.rank == 3:
            arrays = _pack_experts(computing.each(value), parameter.type)
        else:
            arrays = pack(computing.compute(value), layout)
        yield PackedParameter(parameter, layout, arrays)


def _pack_experts(sources: Iterator[Array], type_: TensorType) -> tuple[npt.NDArray[np.generic], ...]:
    """The arrays that store weights ``[experts, outputs, inputs]``, from each expert's."""
    count = int(type_.shape[0])
    arrays = tuple(np.empty(part.shape, part.dtype) for part in components(type_, Layout.BLOCKED))
    for expert, source in enumerate(sources):
        for array, part in zip(arrays, pack(source, Layout.BLOCKED), strict=True):
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


class _Computing:
    """Values of a prepare graph, of each of which only what it needs is computed.

    Those of experts, ``[experts, ...]``, can be taken apart: then one expert's part is held at a time.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Array]) -> None:
        self._graph = graph
        self._tensors = tensors
        self._quantizer = _Quantizer()
        self._whole: dict[Value, Array] = {}

    def compute(self, value: Value) -> Array:
        """One value."""
        needed = _slice(self._graph, value)
        known = {argument: self._tensors[argument.name] for argument in needed.inputs}
        uses = Counter(operand for operation in needed.operations for operand in operation.operands)
        for operation in needed.operations:
            operands = [known[operand] for operand in operation.operands]
            results = self._apply(operation, operands, operation.attributes)
            known.update(zip(operation.results, results, strict=True))
            for operand in operation.operands:
                uses[operand] -= 1
                if not uses[operand] and operand is not value:
                    known.pop(operand, None)
        return known[value]

    def _apply(
        self, operation: Operation, operands: list[Array], attributes: Mapping[str, Attribute]
    ) -> tuple[Array, ...]:
        if operation.operator == "quantize" and not isinstance(operands[0], QuantizedArray):
            quant_format = find_format(str(attributes["format"]))
            return (self._quantizer.quantize(operands[0], quant_format),)
        return find_operator(operation.operator).evaluate(operands, attributes, {})

    def each(self, value: Value) -> Iterator[Array]:
        """What each expert has of ``value``, computed when it is asked for."""
        return (self._part(value, expert)[0] for expert in range(int(value.type.shape[0])))

    def _part(self, value: Value, expert: int) -> Array:
        """``value[expert : expert + 1]``."""
        operation = self._graph.producers.get(value)
        if operation is None:
            if value not in self._whole:  # what comes quantized is unpacked once for all experts
                self._whole[value] = self._tensors[value.name]
            return self._whole[value][expert : expert + 1]
        if operation.operator == "stack":
            return self.compute(operation.operands[expert])[np.newaxis]
        attributes = _attributes_for_one(operation)
        if attributes is None:  # its parts cannot be told apart
            if value not in self._whole:
                self._whole[value] = self.compute(value)
            return self._whole[value][expert : expert + 1]
        parts = [self._part(operand, expert) for operand in operation.operands]
        (array,) = self._apply(operation, parts, attributes)
        return array


def _attributes_for_one(operation: Operation) -> Mapping[str, Attribute] | None:
    """The attributes with which ``operation`` works on one expert's part; None where it mixes them."""
    attributes = operation.attributes
    shape = operation.result.type.shape
    match operation.operator:
        case "cast" | "quantize":
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
    """Quantizes weights: by kernels, compiled for this host as they are needed, where there are any."""

    def __init__(self) -> None:
        self._kernels: dict[tuple[str, QuantFormat], tvm.runtime.Executable] = {}

    def quantize(self, source: npt.NDArray[np.generic], quant_format: QuantFormat) -> QuantizedArray:
        """``source`` ``[..., n, k]`` in ``quant_format``."""
        if not can_quantize(quant_format) or source.ndim < 2:
            return self._quantize_slowly(source, quant_format)
        if source.dtype == ml_dtypes.bfloat16:
            source = source.view(np.uint16)
        key = source.dtype.name, quant_format
        if key not in self._kernels:
            function = quantize_weight("quantize", source.dtype.name, quant_format)
            module = tvm.IRModule({"quantize": function})
            self._kernels[key] = tvm.compile(module, target=llvm_target(_baseline()))
        rows = np.ascontiguousarray(source).reshape(-1, source.shape[-1])
        shapes = [
            (len(rows), 1 if component.size is None else rows.shape[1] // component.size)
            for component in quant_format.components
        ]
        found = [
            tvm.runtime.empty(shape, component.dtype.name)
            for shape, component in zip(shapes, quant_format.components, strict=True)
        ]
        extra = [tvm.runtime.empty(shapes[1], "float32")] if quant_format.has_whole_scales else []
        self._kernels[key]["quantize"](tvm.runtime.tensor(rows), *found, *extra)
        names = [component.name for component in quant_format.components]
        apart = {
            name: array.numpy().reshape(*source.shape[:-1], -1)
            for name, array in zip(names, found, strict=True)
        }
        return QuantizedArray(quant_format, **apart)

    def _quantize_slowly(self, source: npt.NDArray[np.generic], quant_format: QuantFormat) -> QuantizedArray:
        """As the interpreter does, on all cores: numpy lets others run while it computes."""
        rows = source.reshape(-1, source.shape[-1])
        parts = np.array_split(rows, max(1, min(len(rows), 4 * detect_host().num_cores)))
        with ThreadPoolExecutor(detect_host().num_cores) as pool:
            found = list(pool.map(lambda part: quantize(part.astype(np.float32), quant_format), parts))
        joined = {
            name: np.concatenate([part.components[name] for part in found]) for name in found[0].components
        }
        lead = source.shape[:-1]
        return QuantizedArray(quant_format, **{k: v.reshape(*lead, -1) for k, v in joined.items()})


def _baseline() -> Target:
    """The least instruction set of this host's kind, so that all hosts of a kind round alike."""
    host = parse_target("cpu")
    fitting = [t for t in CPUS.values() if (t.system, t.machine) == (host.system, host.machine)]
    return min(fitting, key=lambda target: target.rank)
