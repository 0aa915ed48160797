"""From a trace to plain operators, node by node.

What an operator of torch's becomes is a rule in :mod:`.rules`. What needs none, because all it is computed
from is known beforehand, torch computes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from ...ir.errors import CompileError, IRError
from ...ir.graph import Value
from ...ir.types import ScalarType
from .buffers import is_known
from .emitter import Emitter
from .layout import TOKENS, Layout
from .sources import describe
from .terms import BestLogits, Mask, MaskForm, Parameter, Positional, Term, TokenIds
from .tracing import BATCH, Trace

__all__ = ["Converter", "Rule"]

Rule = Callable[["Converter", torch.fx.Node], Term]
"""What a node becomes; raises :class:`CompileError` saying why it cannot."""

_LARGEST_CONSTANT = 1 << 21
"""Elements of a constant that may stand in a module's text."""


class Converter:
    """Walks a trace and emits its operators; ``term`` says what each node became.

    Attributes:
        emit: where operations go.
        token_ids, positions: the inputs of the graph.
        padding: the token that stands for none.
        vocab_size: one more than the largest token.
        chosen: weights of experts, by the scores that they are and the experts' numbers.
    """

    def __init__(
        self,
        trace: Trace | None,
        emit: Emitter,
        token_ids: Value,
        positions: Value,
        weights: Callable[[str], Value],
        padding: int | None,
        vocab_size: int,
        rules: Mapping[str, Rule],
    ) -> None:
        self.emit = emit
        self.token_ids = token_ids
        self.positions = positions
        self._trace = trace
        self.padding = padding
        self.vocab_size = vocab_size
        self.chosen: dict[tuple[Value, Value], Value] = {}
        self._weights = weights
        self._rules = rules
        self._terms: dict[torch.fx.Node, Term] = {}
        self._masks: dict[int, Value] = {}

    def run(self) -> Value:
        """Convert the whole trace; the logits ``[tokens, vocab_size]``."""
        trace = self._trace
        assert trace is not None
        arguments: list[Term] = []
        for node in trace.graph.nodes:
            if node.op == "placeholder":
                arguments.append(self._placeholder(node, trace))
        (logits,) = self.run_graph(trace.owner, arguments)
        if not isinstance(logits, Value) or logits.type.rank != 2:
            raise CompileError("what the model returns is not logits of each token")
        return logits

    def run_graph(self, owner: torch.fx.GraphModule, arguments: Sequence[Term]) -> tuple[Term, ...]:
        """Convert one graph of the trace, given what its placeholders are; what it returns."""
        needed = _needed(owner.graph)
        given = iter(arguments)
        for node in owner.graph.nodes:
            if node.op == "placeholder":
                self._terms[node] = next(given)
            elif node.op == "output":
                return tuple(self.term(argument) for argument in node.args[0])
            elif node.op == "call_function" and node in needed:
                self._terms[node] = self._convert(owner, node)
        raise CompileError("the trace returns nothing")

    @staticmethod
    def _placeholder(node: torch.fx.Node, trace: Trace) -> Term:
        if node.name == trace.token_ids:
            return TokenIds()
        if node.name in trace.constants:
            if not is_known(constant := trace.constants[node.name]):
                raise CompileError(f"transformers leaves the buffer {node.name} of this model without values")
            return constant
        return Parameter(trace.parameters[node.name])

    def _convert(self, owner: torch.fx.GraphModule, node: torch.fx.Node) -> Term:
        self.emit.node = node
        try:
            if node.target is torch.ops.higher_order.wrap_with_set_grad_enabled:
                inner = getattr(owner, cast(torch.fx.Node, node.args[1]).target)
                return self.run_graph(inner, [self.term(argument) for argument in node.args[2:]])
            if node.target is torch.ops.higher_order.wrap_with_autocast:
                inner = getattr(owner, cast(torch.fx.Node, node.args[4]).target)
                return self.run_graph(inner, [self.term(argument) for argument in node.args[5:]])
            if getattr(node.target, "__name__", "") == "getitem":
                return cast("tuple[Term, ...]", self.term(node.args[0]))[cast(int, node.args[1])]
            if isinstance(node.meta.get("val"), torch.SymInt | int):
                return None  # sizes: shapes are read off the nodes that have them
            if (known := self._known(node)) is not None:
                return known
            name = str(node.target).removesuffix(".default")
            rule = self._rules.get(name) or self._rules.get(name.rpartition(".")[0])
            if rule is None:
                raise CompileError("has no plain operator")
            return rule(self, node)
        except (CompileError, IRError) as error:
            if getattr(error, "is_placed", False):
                raise
            placed = CompileError(f"{describe(node)}: {error}")
            placed.is_placed = True  # type: ignore[attr-defined]
            raise placed from error

    def _known(self, node: torch.fx.Node) -> Term:
        """The value of a node that follows from constants alone, computed by torch; else None."""
        terms = [self.term(argument) for argument in node.all_input_nodes]
        if any(isinstance(term, torch.Tensor) and term.is_meta for term in terms):
            raise CompileError("a constant that the model's code makes on its device has no value in a trace")
        shape = getattr(node.meta.get("val"), "shape", ())
        if not all(isinstance(term, torch.Tensor) for term in terms):
            return None
        if any(isinstance(size, torch.SymInt) for size in shape):
            return None
        if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
            return None

        def real(argument: Any) -> Any:
            if isinstance(argument, torch.fx.Node):
                return self._terms[argument]
            return torch.device("cpu") if isinstance(argument, torch.device) else argument

        args, kwargs = torch.fx.node.map_aggregate((node.args, node.kwargs), real)
        result = node.target(*args, **kwargs)
        return tuple(result) if isinstance(result, list | tuple) else result

    # --- what rules ask for

    def term(self, argument: Any) -> Term:
        """What a node, given as an argument, became."""
        return self._terms[argument] if isinstance(argument, torch.fx.Node) else argument

    def as_if(self, source: torch.fx.Node, term: Term, rule: Rule, node: torch.fx.Node) -> Term:
        """What ``rule`` makes of ``node`` where ``source`` is ``term``."""
        before = self._terms[source]
        self._terms[source] = term
        try:
            return rule(self, node)
        finally:
            self._terms[source] = before

    def layout(self, node: torch.fx.Node) -> Layout:
        """How a node's tensor lies."""
        return Layout.of(node.meta["val"].shape)

    def value(self, argument: Any) -> Value:
        """A node, or a number, as a value of the graph, in float32 unless it holds integers."""
        term = self.term(argument)
        if isinstance(term, Value):
            return term
        if isinstance(term, int | float):
            return self.emit.number(float(term))
        if isinstance(term, Parameter):
            return self._as_float32(self._weights(term.name), argument)
        if isinstance(term, torch.Tensor):
            tokens = self.layout(argument).tokens if isinstance(argument, torch.fx.Node) else ()
            return self._rows(term, argument) if tokens else self._constant(term)
        if isinstance(term, Positional):
            return self._positional(term, argument)
        if isinstance(term, Mask) and term.form is MaskForm.ADDED:
            return self.emit.reshape(self.mask(term.window), self.layout(argument).shape)
        if isinstance(term, TokenIds):
            return self.token_ids
        if isinstance(term, BestLogits):
            return self.emit("take_chosen", term.logits, term.experts)
        raise CompileError("is no tensor of numbers here")

    def weight(self, argument: Any) -> Value:
        """A node as a matrix of weights, in the checkpoint's type where it is a parameter as it is."""
        term = self.term(argument)
        return self._weights(term.name) if isinstance(term, Parameter) else self.value(argument)

    def mask(self, window: int) -> Value:
        """The causal mask of a window, float32 ``[tokens, tokens]``."""
        if window not in self._masks:
            self._masks[window] = self.emit("causal_mask", self.positions, window=window)
        return self._masks[window]

    def aligned(self, argument: Any, out: Layout) -> Value:
        """A node, or a number, as a value that broadcasts to one that lies like ``out``."""
        term = self.term(argument)
        if isinstance(term, Positional) and term.multiple == 0:
            return self.emit.number(float(term.offset))
        return self.aligned_value(self.value(argument), argument, out)

    def aligned_value(self, value: Value, argument: Any, out: Layout) -> Value:
        """:meth:`aligned` of a ``value`` that lies like ``argument``."""
        if not isinstance(argument, torch.fx.Node):
            return value
        layout = self.layout(argument)
        if not layout.sizes:
            return value  # a number, which our graphs hold as one element of one dimension
        behind = len(out.sizes) - len(layout.sizes)
        wanted = [axis - behind if axis >= behind else None for axis in out.axes]
        while wanted and wanted[0] is None:
            wanted.pop(0)
        return self.arrange(value, layout, wanted)

    def arrange(self, value: Value, layout: Layout, wanted: Sequence[int | None]) -> Value:
        """``value``, which lies like ``layout``, with the traced dimensions ``wanted`` as its axes.

        Dimensions left out must be 1, and so are those that are None or that the value does not hold.
        """
        axes = list(layout.axes)
        for axis in layout.axes:
            if axis not in wanted and layout.sizes[axis] != 1:
                raise CompileError(f"dimension {axis} of {layout.sizes} would be lost")
        kept = [axis for axis in axes if axis in wanted]
        value = self.emit.reshape(value, [layout.sizes[axis] for axis in kept])
        order = [kept.index(axis) for axis in wanted if axis in kept]
        value = self.emit.transpose(value, order)
        sizes = [layout.sizes[axis] if axis is not None and axis in kept else 1 for axis in wanted]
        return self.emit.reshape(value, sizes)

    def axis(self, node: torch.fx.Node, dim: int) -> int:
        """The axis of a node's value that a traced dimension, which may count from the end, is."""
        layout = self.layout(node)
        dim = layout.dim(dim)
        if dim not in layout.axes:
            raise CompileError(f"dimension {dim} of {layout.sizes} is the batch's")
        return layout.axes.index(dim)

    def _as_float32(self, weight: Value, argument: Any) -> Value:
        if weight.type.scalar is ScalarType.FLOAT32 or not weight.type.scalar.is_float:
            return weight
        return self.emit("cast", weight, to="float32")

    def _rows(self, tensor: torch.Tensor, argument: Any) -> Value:
        """A constant of more positions than there are tokens: its rows at the tokens' positions."""
        layout = self.layout(argument)
        if len(layout.tokens) != 1:
            raise CompileError("a constant for pairs of tokens is no causal mask")
        for dim in range(tensor.ndim):
            if dim not in layout.tokens and tensor.shape[dim] and tensor.shape[dim] % BATCH == 0:
                tensor = tensor.narrow(dim, 0, tensor.shape[dim] // BATCH)
        table = tensor.movedim(layout.tokens[0], 0).reshape(tensor.shape[layout.tokens[0]], -1)
        rows = self.emit("gather_rows", self._constant(table.contiguous()), self.positions)
        return self.emit.reshape(rows, layout.shape)

    def aligned_as(self, argument: Any, node: torch.fx.Node) -> Value:
        """:meth:`aligned` to ``node``, integers as floats where ``node`` is of floats."""
        value = self.aligned(argument, self.layout(node))
        is_float = node.meta["val"].dtype.is_floating_point
        if is_float and not value.type.scalar.is_float:
            return self.emit("cast", value, to="float32")
        return value

    def _constant(self, tensor: torch.Tensor) -> Value:
        if tensor.numel() > _LARGEST_CONSTANT * max(1, _batches(tensor)):
            raise CompileError(f"a constant of {tensor.numel()} elements is too large for the module's text")
        for dim, size in enumerate(tensor.shape):
            if size % BATCH == 0 and size:
                tensor = tensor.narrow(dim, 0, size // BATCH)
        layout = Layout.of(tensor.shape)
        tensor = tensor.reshape([int(size) for size in layout.shape])
        if tensor.dtype is torch.bool:
            raise CompileError("truth values are no numbers here")
        kind = torch.float32 if tensor.is_floating_point() else torch.int32
        array = tensor.to(kind).numpy()
        return self.emit.constant(np.atleast_1d(array))

    def _positional(self, term: Positional, argument: Any) -> Value:
        layout = self.layout(argument)
        if term.multiple == 0:
            return self.emit.number(term.offset)
        is_float = argument.meta["val"].dtype.is_floating_point
        value = self.positions
        if is_float:
            value = self.emit("cast", value, to="float32")
        if term.multiple != 1 or term.offset:
            if not is_float:
                raise CompileError("arithmetic on positions is supported in floats only")
            if term.multiple != 1:
                value = self.emit("mul", value, self.emit.number(float(term.multiple)))
            value = self.emit("add", value, self.emit.number(term.offset))
        if TOKENS not in layout.shape:
            return value
        value = self.emit.reshape(value, [size if size == TOKENS else 1 for size in layout.shape])
        for axis, size in enumerate(layout.shape):
            if isinstance(size, int):
                value = self.emit.repeat(value, axis, size)
        return value


def _batches(tensor: torch.Tensor) -> int:
    return BATCH if any(size and size % BATCH == 0 for size in tensor.shape) else 1


def _needed(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Nodes that the output depends on."""
    needed: set[torch.fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in needed:
            needed.update(node.all_input_nodes)
            needed.add(node)
    return needed
