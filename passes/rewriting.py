"""What rewriting passes share: graphs copied operation by operation, with some replaced on the way.

A pass first finds what it wants to change in the module as it is, then goes over it once: a rule for an
operation emits what shall stand in its place, all others are copied. Operations, values and names that
nothing touches stay the same objects, and what the change left without use is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..ir import Attribute, Graph, GraphBuilder, Module, Operation, TensorType, Value

__all__ = ["GraphRewriter", "ModuleRewriter", "Rules", "join_names", "prune", "prune_operations"]

Rules = Mapping[Operation, Callable[[], None]]
"""For an operation, what to do in its place; a rule that does nothing drops it."""


class GraphRewriter:
    """Copies a graph; ``emit`` and ``replace`` change it on the way."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._now: dict[Value, Value] = {}
        self._names = {value.name for value in graph.signature}
        self._names.update(result.name for operation in graph.operations for result in operation.results)
        self.builder = GraphBuilder()
        self.builder.declare(graph.inputs, graph.states, graph.parameters)
        self.builder.reserve(self._names)

    def has_name(self, name: str) -> bool:
        """Whether a value of the graph is called ``name``, before or now."""
        return name in self._names

    def now(self, value: Value) -> Value:
        """What stands for ``value`` of the old graph; a value of the new one is itself."""
        return self._now.get(value, value)

    def replace(self, old: Value, new: Value) -> None:
        """Let ``new`` stand for ``old`` wherever an operation copied or emitted from now on uses it."""
        self._now[old] = new

    def emit(
        self,
        operator: str,
        *operands: Value,
        name: str | None = None,
        replaces: Value | None = None,
        **attributes: Attribute,
    ) -> Value:
        """Apply an ``operator`` of one result, which takes the place and name of ``replaces`` if given."""
        (result,) = self.emit_all(operator, operands, attributes, names=(name,), replaces=(replaces,))
        return result

    def emit_all(
        self,
        operator: str,
        operands: Sequence[Value],
        attributes: Mapping[str, Attribute],
        *,
        names: Sequence[str | None] = (),
        replaces: Sequence[Value | None] = (),
    ) -> tuple[Value, ...]:
        """Apply ``operator`` to values, old or new; each result takes the place and name of one replaced."""
        replaced = [old for old in replaces if old is not None]
        for old in replaced:
            self.builder.release(old.name)
        if replaced:
            wanted = (*names, *[None] * (len(replaces) - len(names)))
            names = [name if old is None else old.name for old, name in zip(replaces, wanted, strict=True)]
        results = self.builder.apply(operator, tuple(map(self.now, operands)), attributes, names)
        for value, result in zip(replaces, results, strict=False):
            if value is not None:
                self.replace(value, result)
        self._names.update(result.name for result in results)
        return results

    def copy(self, operation: Operation) -> None:
        """Take ``operation`` over, applied to what stands for its operands; types follow from theirs."""
        operands = tuple(map(self.now, operation.operands))
        if operands == operation.operands:
            self.builder.append(operation)
        elif [value.type for value in operands] == [value.type for value in operation.operands]:
            self.builder.append(replace(operation, operands=operands))
        else:
            self.emit_all(operation.operator, operands, operation.attributes, replaces=operation.results)

    def apply(self, rules: Rules) -> None:
        """Go over the graph once: ``rules`` where there are any, copies elsewhere."""
        for operation in self._graph.operations:
            rule = rules.get(operation)
            if rule is None:
                self.copy(operation)
            else:
                rule()

    def finish(self, outputs: Sequence[Value] | None = None) -> Graph:
        """The new graph; its outputs are what stands for the old ones unless given."""
        return self.builder.build(*map(self.now, self._graph.outputs if outputs is None else outputs))


class ModuleRewriter:
    """Rewrites forward, and adds to prepare what computes forward's new parameters."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self.forward = GraphRewriter(module.forward)
        self.prepare = GraphRewriter(module.prepare)
        self.prepare.apply({})
        self._prepared = dict(zip(module.forward.parameters, module.prepare.outputs, strict=True))

    def prepared(self, parameter: Value) -> Value:
        """The value of prepare that becomes ``parameter`` of forward."""
        return self._prepared[parameter]

    def quantized_from(self, prepared: Value) -> Value | None:
        """What ``prepared`` is quantized from in prepare, None where it is not."""
        producer = self._module.prepare.producers.get(prepared)
        return producer.operands[0] if producer is not None and producer.operator == "quantize" else None

    def is_parameter(self, value: Value) -> bool:
        """Whether ``value`` is a parameter of forward."""
        return value in self._prepared

    def add_tensor(self, name: str, type_: TensorType) -> Value:
        """A new tensor of the checkpoint's, in prepare."""
        return self.prepare.builder.input(name, type_.shape, type_.element)

    def compute(self, operator: str, *operands: Value, name: str, **attributes: Attribute) -> Value:
        """Apply ``operator`` in prepare; the result, whose name is free in forward too."""
        unique, number = name, 1
        while self.prepare.has_name(unique) or self.forward.has_name(unique):
            unique, number = f"{name}.{number}", number + 1
        (result,) = self.prepare.emit_all(operator, operands, attributes, names=(unique,))
        return result

    def add_parameter(self, prepared: Value) -> Value:
        """The new parameter of forward that ``prepared``, which :meth:`compute` gave, becomes."""
        parameter = self.forward.builder.parameter(prepared.name, prepared.type)
        self._prepared[parameter] = prepared
        return parameter

    def finish(self, outputs: Sequence[Value] | None = None) -> Module:
        """The new module, pruned."""
        forward = self.forward.finish(outputs)
        prepare = self.prepare.finish([self._prepared[parameter] for parameter in forward.parameters])
        return prune(replace(self._module, prepare=prepare, forward=forward))


def join_names(names: Sequence[str]) -> str:
    """One name for what is made of several: parts in common once, the others joined by ``+``.

    ``a.q.weight``, ``a.k.weight`` and ``a.v.weight`` make ``a.q+k+v.weight``.
    """
    split = [name.split(".") for name in names]
    if len({len(parts) for parts in split}) != 1:
        return "+".join(names)
    return ".".join("+".join(dict.fromkeys(parts)) for parts in zip(*split, strict=True))


def prune(module: Module) -> Module:
    """``module`` without operations, parameters and checkpoint tensors that no output needs.

    It is ``module`` itself where there are none.
    """
    forward = prune_operations(module.forward)
    used = _used(forward)
    kept = [index for index, parameter in enumerate(forward.parameters) if parameter in used]
    prepare = module.prepare
    if len(kept) != len(forward.parameters):
        forward = replace(forward, parameters=tuple(forward.parameters[index] for index in kept))
        prepare = replace(prepare, outputs=tuple(prepare.outputs[index] for index in kept))
    prepare = prune_operations(prepare)
    used = _used(prepare)
    if not used.issuperset(prepare.inputs):
        prepare = replace(prepare, inputs=tuple(value for value in prepare.inputs if value in used))
    if forward is module.forward and prepare is module.prepare:
        return module
    return replace(module, prepare=prepare, forward=forward)


def _used(graph: Graph) -> set[Value]:
    return {operand for operation in graph.operations for operand in operation.operands}.union(graph.outputs)


def prune_operations(graph: Graph) -> Graph:
    """``graph`` without operations that no output needs; itself where there are none."""
    live = set(graph.outputs)
    kept: list[Operation] = []
    for operation in reversed(graph.operations):
        if not live.isdisjoint(operation.results):
            kept.append(operation)
            live.update(operation.operands)
    if len(kept) == len(graph.operations):
        return graph
    return replace(graph, operations=tuple(reversed(kept)))
