"""Parameters of the step: computed from the checkpoint one at a time, and packed as the kernels take them.

A module's prepare graph says what each parameter is; the interpreter computes it. What that would take
minutes for, searching the scales of quantized weights, a kernel compiled for this host does instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import tvm

from ..frontend import WeightSource
from ..ir import Array, Graph, Module, Operation, QuantFormat, Value, evaluate, find_format
from ..targets import CPUS, Target, parse_target
from .kernels.layout import BLOCK, Component, Layout, components, pack
from .kernels.quantize_weights import quantize_weight
from .library import llvm_target
from .lowering import parameter_layouts

__all__ = ["PackedParameter", "pack_parameters"]


@dataclass(frozen=True, slots=True)
class PackedParameter:
    """A parameter and the arrays that store it."""

    parameter: Value
    layout: Layout
    arrays: tuple[npt.NDArray[np.generic], ...]


def pack_parameters(module: Module, weights: WeightSource) -> Iterator[PackedParameter]:
    """Each parameter of ``module``'s step, computed when it is asked for, in order of use."""
    definitions = dict(zip((p.name for p in module.forward.parameters), module.prepare.outputs, strict=True))
    quantizer = _Quantizer()
    tensors = _Tensors(weights)
    for parameter, layout in parameter_layouts(module.forward).items():
        value = definitions[parameter.name]
        producer = module.prepare.producers.get(value)
        if producer is not None and producer.operator == "quantize" and layout is Layout.BLOCKED:
            source = _compute(module.prepare, producer.operands[0], tensors)
            parts = components(parameter.type, layout)
            arrays = quantizer.pack(source, find_format(str(producer.attributes["format"])), parts)
        else:
            arrays = pack(_compute(module.prepare, value, tensors), layout)
        yield PackedParameter(parameter, layout, arrays)


class _Tensors(Mapping[str, Array]):
    """A checkpoint's tensors, read when they are looked up."""

    def __init__(self, weights: WeightSource) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Array:
        return self._weights.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights.names)

    def __len__(self) -> int:
        return len(self._weights.names)


def _compute(graph: Graph, value: Value, tensors: Mapping[str, Array]) -> npt.NDArray[np.generic]:
    """One value of a prepare graph: only what it needs is computed."""
    (result,) = evaluate(_slice(graph, value), tensors)
    return result  # type: ignore[return-value]


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
        zero = -quant_format.smallest
        byte = zero | zero << 4 if quant_format.bits == 4 else zero
        codes[-1].reshape(-1, BLOCK, 4)[:, BLOCK - missing :] = byte
