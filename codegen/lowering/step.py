"""The step that is being lowered: its Relax function, and the buffer behind each value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import tvm
from tvm import relax, tirx

from ...ir import Graph, Operation, TensorType, Value
from ...ir.errors import CompileError
from ...targets.manifest import ENTRY
from ..kernels.isa import Isa
from ..kernels.layout import Component, components
from ..kernels.rows import RoundedRows, Rows
from .layouts import parameter_layouts, state_layouts

__all__ = [
    "MAX_STEP_TOKENS",
    "Codes",
    "Grouping",
    "Region",
    "RoundedRegion",
    "Rule",
    "Size",
    "Step",
    "columns_of",
    "width_of",
]

MAX_STEP_TOKENS = 4096
"""The most tokens a step is given. Activations are planned for so many, so that steps of any size reuse the
same memory; the system gives it out only where it is written, so what is taken is what the steps need."""

Size: TypeAlias = int | str | tuple[int | str, ...]
"""A dimension of a buffer: a number, a symbol, or the product of several."""

Rule: TypeAlias = "Callable[[Step, Operation], None]"
"""Emits what an operation computes."""


@dataclass(frozen=True, slots=True)
class Region:
    """An activation: columns of a buffer, a row for each of its first dimensions, ``rows``.

    They are the first alone, but that what a token's experts say has a row for each of them.
    """

    buffer: relax.Expr
    rows: tuple[int | str, ...]
    view: Rows


@dataclass(frozen=True, slots=True)
class RoundedRegion:
    """An activation rounded to bfloat16, in pairs: a buffer of its own."""

    buffer: relax.Expr
    rows: tuple[int | str, ...]
    view: RoundedRows


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantized activation: codes, scales, and sums of codes."""

    codes: relax.Expr
    scales: relax.Expr
    sums: relax.Expr

    @property
    def parts(self) -> list[relax.Expr]:
        """All three."""
        return [self.codes, self.scales, self.sums]


@dataclass(frozen=True, slots=True)
class Grouping:
    """A step's pairs of tokens and experts, as :func:`group_by_expert` puts them in order."""

    order: relax.Expr
    starts: relax.Expr
    active: relax.Expr

    @property
    def parts(self) -> list[relax.Expr]:
        """All three."""
        return [self.order, self.starts, self.active]


def width_of(type_: TensorType, num_row_dims: int = 1) -> int:
    """Columns of an activation: all dimensions but the first, or but those that have a row each."""
    return math.prod(int(dim) for dim in type_.shape[num_row_dims:])


def columns_of(type_: TensorType, lead: int) -> tuple[int, ...]:
    """The dimensions that a row holds, where each of the first ``lead`` has a row."""
    return tuple(int(dim) for dim in type_.shape[lead:])


class Step:
    """Walks a graph once, emitting kernel calls by ``rules``, one an operator.

    What rules share: ``regions``, the activations; ``plain``, inputs and other values that are read as they
    lie; ``states``, the arrays of each state; ``stored``, parameters with their components. ``numbers`` and
    ``inlined`` are what becomes part of an elementwise kernel; ``pairs`` are rows rounded to bfloat16;
    ``rounded``, ``codes`` and ``groupings`` belong to quantized rows and experts.
    """

    def __init__(
        self, graph: Graph, isa: Isa, rules: Mapping[str, Rule], max_step_tokens: int = MAX_STEP_TOKENS
    ) -> None:
        self.graph = graph
        self.isa = isa
        self._rules = rules
        self._max_step_tokens = max_step_tokens
        self.builder = relax.BlockBuilder()
        self._symbols: dict[str, tirx.Var] = {}
        self._kernels: dict[tuple[object, ...], relax.GlobalVar] = {}
        self.regions: dict[Value, Region] = {}
        self.pairs: dict[Value, RoundedRegion] = {}
        self.rounded: dict[Value, Region | None] = {}
        self.codes: dict[tuple[Value, Value | None], Codes] = {}
        self.groupings: dict[Value, Grouping] = {}
        self.plain: dict[Value, relax.Expr] = {}
        self.states: dict[Value, tuple[relax.Expr, ...]] = {}
        self.numbers: dict[Value, float] = {}
        self.inlined: dict[Value, Operation] = {}
        self.stored: dict[Value, tuple[tuple[Component, ...], tuple[relax.Var, ...]]] = {}

    def run(self) -> tvm.IRModule:
        """The function :data:`ENTRY` and its kernels."""
        graph = self.graph
        arguments: list[relax.Var] = []
        for value in graph.inputs:
            self.plain[value] = self._argument(
                arguments, value.name, value.type.shape, value.type.scalar.value
            )
        self._logits = self._argument(arguments, "logits", graph.outputs[0].type.shape, "float32")
        for state, layouts in state_layouts(graph).items():
            self.states[state] = tuple(
                self._argument(arguments, array.name, array.shape, array.dtype) for array in layouts
            )
        for parameter, layout in parameter_layouts(graph).items():
            parts = components(parameter.type, layout)
            variables = tuple(
                self._argument(arguments, parameter.name + part.suffix, part.shape, part.dtype)
                for part in parts
            )
            self.stored[parameter] = parts, variables
        bounds = dict.fromkeys(("tokens", "rows", "sequences"), self._max_step_tokens)
        with self.builder.function(ENTRY, arguments, attrs={"tir_var_upper_bound": bounds}):
            with self.builder.dataflow():
                for operation in graph.operations:
                    self._lower(operation)
                logits = self.region(graph.outputs[0])
                result = self.builder.emit_output(logits.buffer)
            self.builder.emit_func_output(result)
        return self.builder.finalize()

    def _argument(
        self, arguments: list[relax.Var], name: str, shape: tuple[int | str, ...], dtype: str
    ) -> relax.Var:
        variable = relax.Var(_identifier(name), self.tensor(shape, dtype))
        arguments.append(variable)
        return variable

    def tensor(self, shape: Sequence[Size], dtype: str) -> relax.TensorType:
        """The type of a buffer; symbols are the step's own."""
        return relax.TensorType([self._dim(dim) for dim in shape], dtype)

    def _dim(self, dim: Size) -> int | tirx.Expr:
        if isinstance(dim, int):
            return dim
        if isinstance(dim, tuple):
            return math.prod(self._dim(factor) for factor in dim)
        return self._symbols.setdefault(dim, tirx.Var(dim, "int64"))

    def _lower(self, operation: Operation) -> None:
        rule = self._rules.get(operation.operator)
        if rule is None:
            value = operation.results[0].name
            raise CompileError(f"no kernel for operator {operation.operator} (%{value}) on CPU")
        rule(self, operation)

    def call(
        self,
        make: Callable[..., tirx.PrimFunc],
        key: tuple[object, ...],
        arguments: list[relax.Expr],
        results: Sequence[tuple[Sequence[Size], str]],
    ) -> list[relax.Expr]:
        """Call the kernel ``make(isa, name, *key)``; it is generated on first use."""
        kernel = self.kernel(make, key)
        types = [self.tensor(shape, dtype) for shape, dtype in results]
        called = self.builder.emit(relax.call_tir(kernel, arguments, types if len(types) > 1 else types[0]))
        if len(types) == 1:
            return [called]
        return [self.builder.emit(relax.TupleGetItem(called, index)) for index in range(len(types))]

    def call_in_place(
        self,
        make: Callable[..., tirx.PrimFunc],
        key: tuple[object, ...],
        arguments: list[relax.Expr],
        written: tuple[int, ...],
    ) -> relax.Expr:
        """Call a kernel that writes to the arguments at ``written``; the result is these."""
        types = [arguments[index].ty for index in written]
        results = types if len(types) > 1 else types[0]
        kernel = self.kernel(make, key)
        return self.builder.emit(relax.op.call_tir_inplace(kernel, arguments, list(written), results))

    def kernel(self, make: Callable[..., tirx.PrimFunc], key: tuple[object, ...]) -> relax.GlobalVar:
        """The kernel ``make(isa, name, *key)``, the same for the same key."""
        known = (make, *key)
        if known not in self._kernels:
            name = f"{make.__name__}_{len(self._kernels)}"
            self._kernels[known] = self.builder.add_func(make(self.isa, name, *key), name)
        return self._kernels[known]

    def region(self, value: Value) -> Region:
        """The buffer behind an activation; parameters and inputs that are read row by row are one as well."""
        if value in self.regions:
            return self.regions[value]
        if value in self.stored:
            return Region(self.stored[value][1][0], value.type.shape[:1], Rows.dense(width_of(value.type)))
        raise CompileError(f"%{value.name} ({value.type}) is used where rows of activations are needed")

    def emit_rows(
        self,
        operation: Operation,
        make: Callable[..., tirx.PrimFunc],
        key: tuple[object, ...],
        arguments: list[relax.Expr],
    ) -> None:
        """Call a kernel whose results are this operation's, each a dense activation."""
        rows = self.rows_of(operation)
        shapes = [((rows, width_of(result.type, len(rows))), "float32") for result in operation.results]
        if operation.results[0] is self.graph.outputs[0]:
            buffers = [self.call_in_place(make, key, [*arguments, self._logits], (len(arguments),))]
        else:
            buffers = self.call(make, key, arguments, shapes)
        for result, buffer in zip(operation.results, buffers, strict=True):
            self.regions[result] = Region(buffer, rows, Rows.dense(width_of(result.type, len(rows))))

    def rows_of(self, operation: Operation) -> tuple[int | str, ...]:
        """The dimensions of the results that have a row each: those of what is computed row by row stay."""
        shape = operation.results[0].type.shape
        if operation.operator == "expert_linear":
            return shape[:2]
        for source in self.sources(operation):
            region = self.regions.get(source) or self.pairs.get(source)
            count = 0 if region is None else len(region.rows)
            if region is not None and 1 < count < len(shape) and shape[:count] == region.rows:
                return region.rows
        return shape[:1]

    def sources(self, operation: Operation) -> Iterator[Value]:
        """The operands, and those of what becomes part of the same kernel."""
        for value in operation.operands:
            if value in self.inlined:
                yield from self.sources(self.inlined[value])
            else:
                yield value


def _identifier(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name)
