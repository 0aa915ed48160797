"""The graph that is being built: ONNX nodes, and the name behind each value of the IR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import onnx

from ...ir import Array, Graph, Operation, QuantFormat, ScalarType, TensorType, Value
from ...ir.errors import CompileError
from .weight_file import AnyArray, Stored, WeightFile

__all__ = ["IR_VERSION", "MICROSOFT", "OPSET", "Attribute", "Rule", "Step", "tensor_info"]

OPSET = 23
"""Of ONNX' own operators: the first with RMSNormalization and RotaryEmbedding."""

IR_VERSION = 11
"""Of the file format, as that opset needs it."""

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

Attribute: TypeAlias = int | float | str | Sequence[int]

Rule: TypeAlias = "Callable[[Step, Operation], None]"
"""Emits what an operation computes."""

_NOTHING: Mapping[Operation, Callable[[], None]] = MappingProxyType({})


class Step:
    """Walks a graph once, emitting nodes by ``rules``, one an operator.

    What rules share: ``names``, what each value is called; ``rounded``, the values that a product takes
    rounded to eight bits; ``shared``, names of what one rule computes for all layers.
    """

    def __init__(self, graph: Graph, weights: WeightFile, rules: Mapping[str, Rule]) -> None:
        self.graph = graph
        self.weights = weights
        self._rules = rules
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[object, ...], str] = {}
        self._initializers: dict[str, onnx.TensorProto | Stored] = {}
        self._reshaped: dict[str, str] = {}
        self.names: dict[Value, str] = {}
        self.rounded: set[Value] = set()
        self.shared: dict[tuple[object, ...], str] = {}

    def walk(self, instead: Mapping[Operation, Callable[[], None]] = _NOTHING) -> None:
        """Emit all operations, those of ``instead`` as that says.

        Raises :class:`CompileError` for one that has no rule.
        """
        for operation in self.graph.operations:
            if operation in instead:
                instead[operation]()
                continue
            rule = self._rules.get(operation.operator)
            if rule is None:
                value = operation.results[0].name
                raise CompileError(
                    f"operator {operation.operator} (%{value}) cannot be said in ONNX yet; the tvm backend "
                    "has a kernel for it"
                )
            rule(self, operation)

    def name(self, value: Value) -> str:
        """What ``value`` is called where float32 is needed, or integers as they are."""
        if value not in self.names:
            if value not in self.graph.parameters:
                raise CompileError(f"%{value.name} ({value.type}) is used before anything computes it")
            self.names[value] = self._parameter(value)
        return self.names[value]

    def _parameter(self, value: Value) -> str:
        """A parameter as float32; narrower ones are stored as they are and widened when they are loaded."""
        stored = self.stored(value)
        if stored.dtype == np.float32 or not isinstance(value.type.element, ScalarType):
            return stored.name
        if not value.type.element.is_float:
            return stored.name
        return self.cast(stored.name, ScalarType.FLOAT32)

    def stored(self, value: Value) -> Stored:
        """A parameter that is not quantized, as the file has it."""
        if isinstance(value.type.element, QuantFormat):
            raise CompileError(
                f"%{value.name} ({value.type}) is used where ONNX has no operator for quantized weights"
            )
        parts = self.weights.store(value, "plain", lambda array: {"values": _plain(array)})
        return self.use(parts["values"])

    def use(self, stored: Stored) -> Stored:
        """Make ``stored`` an initializer of this graph."""
        self._initializers[stored.name] = stored
        return stored

    def constant(self, array: AnyArray | int | float | Sequence[int]) -> str:
        """A small array inside the model: whole numbers are int64, others float32 unless they say more."""
        if not isinstance(array, np.ndarray):
            is_whole = isinstance(array, int) or (isinstance(array, Sequence) and all_whole(array))
            array = np.asarray(array, np.int64 if is_whole else np.float32)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant.{len(self._constants)}"
            self._constants[key] = name
            self._initializers[name] = onnx.numpy_helper.from_array(array, name)
        return self._constants[key]

    def emit(
        self,
        operator: str,
        *inputs: str,
        domain: str = "",
        result: Value | None = None,
        **attributes: Attribute,
    ) -> str:
        """A node of one output, which is ``result`` of the IR if that is given; the output's name."""
        return self._node(operator, inputs, (result,) if result else 1, domain, attributes)[0]

    def emit_all(
        self,
        operator: str,
        *inputs: str,
        domain: str = "",
        results: int | Sequence[Value | None],
        **attributes: Attribute,
    ) -> list[str]:
        """A node of several outputs: these of the IR, None where nobody uses one, or so many others."""
        return self._node(operator, inputs, results, domain, attributes)

    def _node(
        self,
        operator: str,
        inputs: Sequence[str],
        results: int | Sequence[Value | None],
        domain: str,
        attributes: Mapping[str, Attribute],
    ) -> list[str]:
        name = f"{operator}.{len(self._nodes)}"
        if isinstance(results, int):
            outputs = [f"{name}.{place}" for place in range(results)]
        else:
            outputs = ["" if value is None else value.name for value in results]
            self.names.update((value, value.name) for value in results if value is not None)
        node = onnx.helper.make_node(operator, list(inputs), outputs, name=name, domain=domain or None)
        node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(node)
        return outputs

    def once(self, key: tuple[object, ...], compute: Callable[[], str]) -> str:
        """What ``compute`` emits, emitted for the first that asks with ``key``."""
        if key not in self.shared:
            self.shared[key] = compute()
        return self.shared[key]

    def cast(self, name: str, to: ScalarType, result: Value | None = None) -> str:
        """``name`` as another type."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(to.numpy)
        return self.emit("Cast", name, result=result, to=int(kind))

    def reshape(self, name: str, shape: Sequence[int], result: Value | None = None) -> str:
        """``name`` in another shape: -1 is what is left, 0 is as it was."""
        if 0 not in shape:  # then it does not matter what shape there was before
            name = self._reshaped.get(name, name)
        reshaped = self.emit("Reshape", name, self.constant(list(shape)), result=result)
        self._reshaped[reshaped] = name
        return reshaped

    def slice(self, name: str, axis: int, start: int, stop: int | None, result: Value | None = None) -> str:
        """``name[start:stop]`` along an axis; None is the end."""
        end = np.iinfo(np.int64).max if stop is None else stop
        bounds = (self.constant([number]) for number in (start, int(end), axis))
        return self.emit("Slice", name, *bounds, result=result)

    def unsqueeze(self, name: str, *axes: int) -> str:
        """``name`` with further dimensions of 1."""
        return self.emit("Unsqueeze", name, self.constant(list(axes)))

    def alias(self, value: Value, name: str) -> None:
        """Let ``value`` be what ``name`` is."""
        self.names[value] = name

    def rename(self, old: str, new: str) -> None:
        """Call what a node gives otherwise, as an output of the graph has to be."""
        if old == new:
            return
        # What had that name gets another.
        others = {old: new, new: f"{new}.before"}
        for node in self._nodes:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    names[place] = others.get(name, name)
        self.names = {value: others.get(name, name) for value, name in self.names.items()}

    def model(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        location: str,
    ) -> onnx.ModelProto:
        """The model of all that was emitted, its weights in the file ``location`` beside it."""
        nodes = _needed(self._nodes, {value.name for value in outputs})
        read = {name for node in nodes for name in node.input}
        initializers = [
            stored.proto(location) if isinstance(stored, Stored) else stored
            for name, stored in self._initializers.items()
            if name in read
        ]
        graph = onnx.helper.make_graph(nodes, name, list(inputs), list(outputs), initializers)
        domains = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(MICROSOFT, 1)]
        return onnx.helper.make_model(
            graph, opset_imports=domains, ir_version=IR_VERSION, producer_name="ingot"
        )


def _needed(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes that something in ``wanted`` depends on, in their order."""
    needed, wanted = [], set(wanted)
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            needed.append(node)
    return needed[::-1]


def all_whole(numbers: Sequence[object]) -> bool:
    """Whether all are whole numbers."""
    return all(isinstance(number, int) for number in numbers)


def tensor_info(name: str, type_: TensorType) -> onnx.ValueInfoProto:
    """An input or output of the graph."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(type_.scalar.numpy)
    return onnx.helper.make_tensor_value_info(name, kind, list(type_.shape))


def _plain(array: Array) -> AnyArray:
    if not isinstance(array, np.ndarray):
        raise CompileError(f"a tensor in format {array.format.name} came where a plain one is needed")
    return array
