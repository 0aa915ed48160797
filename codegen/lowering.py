"""From a paged or a ragged module to TVM: each operator becomes a call of a kernel specialised to its shapes.

Activations are two-dimensional buffers ``[rows, columns]``; reshapes and slices that keep rows whole move
nothing, they are other :class:`~ingot.codegen.kernels.rows.Rows` of the same buffer. A kernel is generated
once for each distinct specialisation, so that a model of many like layers holds a handful. To lower another
operator, add a method to :class:`_Lowering` and name it in ``_RULES``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias, cast

import numpy as np
import tvm
from tvm import relax, tirx

from ..ir import Graph, Module, Operation, QuantFormat, ScalarType, TensorType, Value
from ..ir.errors import CompileError
from ..targets.manifest import ENTRY
from .kernels.attention import AttentionShape, paged_attention
from .kernels.elementwise import BINARY, UNARY, Argument, Expression, elementwise, gate
from .kernels.experts import (
    Routing,
    expert_linear_float,
    expert_linear_quantized,
    group_by_expert,
    quantize_expert_rows,
    route,
    weighted_sum,
)
from .kernels.isa import Isa
from .kernels.latent import append_latents, head_linear_float, head_linear_quantized
from .kernels.layout import Component, Layout, components
from .kernels.linear import CodedMatrix, FloatMatrix, linear_float, linear_quantized
from .kernels.pointwise import append_kv, embedding, gather_rows, layer_norm, rms_norm, rope
from .kernels.pooling import l2_normalize, pool
from .kernels.quantize import quantize_rows
from .kernels.ragged_attention import RaggedShape, ragged_attention
from .kernels.rearrange import Part, copy_parts, joined, repeated, sliced, transposed
from .kernels.recurrent import ScanShape, paged_conv, paged_scan
from .kernels.rows import Rows

__all__ = ["MAX_STEP_TOKENS", "StateLayout", "lower", "parameter_layouts", "state_layouts"]

MAX_STEP_TOKENS = 4096
"""The most tokens a step is given. Activations are planned for so many, so that steps of any size reuse the
same memory; the system gives it out only where it is written, so what is taken is what the steps need."""


@dataclass(frozen=True, slots=True)
class StateLayout:
    """How a state lies in memory: dimensions, ``pages`` the symbolic one, and numpy dtype."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


class _StateRole(Enum):
    KEYS = "keys"
    VALUES = "values"


def parameter_layouts(graph: Graph) -> dict[Value, Layout]:
    """How each parameter of a step is laid out, by what uses it.

    They are in the order in which the step first uses them, which is that of the entry's arguments and of
    the file.
    """
    known = frozenset(graph.parameters)
    layouts: dict[Value, Layout] = {}
    for operation in graph.operations:
        for position, operand in enumerate(operation.operands):
            if operation.operator == "linear":
                wanted = (None, Layout.BLOCKED, Layout.PADDED)[position]
            elif operation.operator == "head_linear":
                wanted = (None, Layout.BLOCKED)[position]
            elif operation.operator == "expert_linear":
                wanted = (None, Layout.BLOCKED, None, Layout.PADDED)[position]
            elif operation.operator == "embedding" and position == 0:
                wanted = Layout.BLOCKED
            else:
                wanted = Layout.ROWS
            if wanted is None or operand not in known:
                continue
            if layouts.setdefault(operand, wanted) is not wanted:
                raise CompileError(
                    f"parameter %{operand.name} is used in two ways that want different layouts"
                )
    for parameter in graph.parameters:
        layouts.setdefault(parameter, Layout.ROWS)
    return layouts


def state_layouts(graph: Graph) -> tuple[StateLayout, ...]:
    """How each state of a step is laid out: keys by column, so that neighbouring keys fill a vector.

    Slots of recurrent state lie as their types have it.
    """
    roles: dict[Value, _StateRole] = {}
    for operation in graph.operations:
        if operation.operator == "append_kv":
            roles[operation.operands[0]] = _StateRole.KEYS
            roles[operation.operands[1]] = _StateRole.VALUES
        elif operation.operator == "append_latents":
            roles[operation.operands[0]] = _StateRole.KEYS
    layouts = []
    for state in graph.states:
        if state not in roles:
            layouts.append(StateLayout(state.name, state.type.shape, state.type.scalar.value))
            continue
        pages, kv_heads, page_size, head_dim = state.type.shape
        inner = (head_dim, page_size) if roles[state] is _StateRole.KEYS else (page_size, head_dim)
        layouts.append(StateLayout(state.name, (pages, kv_heads, *inner), state.type.scalar.value))
    return tuple(layouts)


def lower(module: Module, isa: Isa, max_step_tokens: int = MAX_STEP_TOKENS) -> tvm.IRModule:
    """The module's step as a Relax function :data:`ENTRY` over kernels for ``isa``.

    Steps of up to ``max_step_tokens`` are planned for. Raises :class:`CompileError` for an operator that has
    no kernel, or operands no kernel takes.
    """
    if module.stage not in ("paged", "ragged"):
        raise CompileError(f"only paged and ragged modules can be lowered, not one at stage {module.stage}")
    return _Lowering(module.forward, isa, max_step_tokens).run()


_Size: TypeAlias = int | str | tuple[int | str, ...]
"""A dimension of a buffer: a number, a symbol, or the product of several."""


@dataclass(frozen=True, slots=True)
class _Region:
    """An activation: columns of a buffer, a row for each of its first dimensions, ``rows``.

    They are the first alone, but that what a token's experts say has a row for each of them.
    """

    buffer: relax.Expr
    rows: tuple[int | str, ...]
    view: Rows


@dataclass(frozen=True, slots=True)
class _Codes:
    """A quantized activation: codes, scales, and the codes' sums by group."""

    codes: relax.Expr
    scales: relax.Expr
    sums: relax.Expr

    @property
    def parts(self) -> list[relax.Expr]:
        """All three."""
        return [self.codes, self.scales, self.sums]


@dataclass(frozen=True, slots=True)
class _Grouping:
    """A step's pairs of tokens and experts, as :func:`group_by_expert` puts them in order."""

    order: relax.Expr
    starts: relax.Expr
    active: relax.Expr

    @property
    def parts(self) -> list[relax.Expr]:
        """All three."""
        return [self.order, self.starts, self.active]


def _whole(type_: TensorType, num_row_dims: int = 1) -> int:
    """Columns of an activation: all dimensions but the first."""
    return math.prod(int(dim) for dim in type_.shape[num_row_dims:])


class _Lowering:
    """Walks a graph once, emitting kernel calls; holds the buffer behind each value."""

    def __init__(self, graph: Graph, isa: Isa, max_step_tokens: int) -> None:
        self._graph = graph
        self._isa = isa
        self._max_step_tokens = max_step_tokens
        self._builder = relax.BlockBuilder()
        self._symbols: dict[str, tirx.Var] = {}
        self._kernels: dict[tuple[object, ...], relax.GlobalVar] = {}
        self._regions: dict[Value, _Region] = {}
        self._rounded: dict[Value, tuple[_Region, int]] = {}
        self._codes: dict[tuple[Value, Value | None], _Codes] = {}
        self._groupings: dict[Value, _Grouping] = {}
        self._plain: dict[Value, relax.Expr] = {}
        self._numbers: dict[Value, float] = {}
        self._inlined: dict[Value, Operation] = {}
        self._stored: dict[Value, tuple[tuple[Component, ...], tuple[relax.Var, ...]]] = {}

    # --- the function

    def run(self) -> tvm.IRModule:
        graph = self._graph
        arguments: list[relax.Var] = []
        for value in graph.inputs:
            self._plain[value] = self._argument(
                arguments, value.name, value.type.shape, value.type.scalar.value
            )
        self._logits = self._argument(arguments, "logits", graph.outputs[0].type.shape, "float32")
        for state, stored in zip(graph.states, state_layouts(graph), strict=True):
            self._plain[state] = self._argument(arguments, stored.name, stored.shape, stored.dtype)
        for parameter, layout in parameter_layouts(graph).items():
            parts = components(parameter.type, layout)
            variables = tuple(
                self._argument(arguments, parameter.name + part.suffix, part.shape, part.dtype)
                for part in parts
            )
            self._stored[parameter] = parts, variables
        bounds = dict.fromkeys(("tokens", "rows", "sequences"), self._max_step_tokens)
        with self._builder.function(ENTRY, arguments, attrs={"tir_var_upper_bound": bounds}):
            with self._builder.dataflow():
                for operation in graph.operations:
                    self._lower(operation)
                logits = self._region(graph.outputs[0])
                result = self._builder.emit_output(logits.buffer)
            self._builder.emit_func_output(result)
        return self._builder.finalize()

    def _argument(
        self, arguments: list[relax.Var], name: str, shape: tuple[int | str, ...], dtype: str
    ) -> relax.Var:
        variable = relax.Var(_identifier(name), self._tensor(shape, dtype))
        arguments.append(variable)
        return variable

    def _tensor(self, shape: Sequence[_Size], dtype: str) -> relax.TensorType:
        return relax.TensorType([self._dim(dim) for dim in shape], dtype)

    def _dim(self, dim: _Size) -> int | tirx.Expr:
        if isinstance(dim, int):
            return dim
        if isinstance(dim, tuple):
            return math.prod(self._dim(factor) for factor in dim)
        return self._symbols.setdefault(dim, tirx.Var(dim, "int64"))

    def _lower(self, operation: Operation) -> None:
        rule = _RULES.get(operation.operator)
        if rule is None:
            value = operation.results[0].name
            raise CompileError(f"no kernel for operator {operation.operator} (%{value}) on CPU")
        rule(self, operation)

    # --- kernels and buffers

    def _call(
        self,
        make: Callable[..., tirx.PrimFunc],
        key: tuple[object, ...],
        arguments: list[relax.Expr],
        results: Sequence[tuple[Sequence[_Size], str]],
    ) -> list[relax.Expr]:
        """Call the kernel ``make(isa, name, *key)``; it is generated on first use."""
        kernel = self._kernel(make, key)
        types = [self._tensor(shape, dtype) for shape, dtype in results]
        called = self._builder.emit(relax.call_tir(kernel, arguments, types if len(types) > 1 else types[0]))
        if len(types) == 1:
            return [called]
        return [self._builder.emit(relax.TupleGetItem(called, index)) for index in range(len(types))]

    def _call_in_place(
        self,
        make: Callable[..., tirx.PrimFunc],
        key: tuple[object, ...],
        arguments: list[relax.Expr],
        written: tuple[int, ...],
    ) -> relax.Expr:
        """Call a kernel that writes to the arguments at ``written``; the result is these."""
        types = [arguments[index].ty for index in written]
        results = types if len(types) > 1 else types[0]
        kernel = self._kernel(make, key)
        return self._builder.emit(relax.op.call_tir_inplace(kernel, arguments, list(written), results))

    def _kernel(self, make: Callable[..., tirx.PrimFunc], key: tuple[object, ...]) -> relax.GlobalVar:
        known = (make, *key)
        if known not in self._kernels:
            name = f"{make.__name__}_{len(self._kernels)}"
            self._kernels[known] = self._builder.add_func(make(self._isa, name, *key), name)
        return self._kernels[known]

    def _region(self, value: Value) -> _Region:
        """The buffer behind an activation; parameters and inputs that are read row by row are one as well."""
        if value in self._regions:
            return self._regions[value]
        if value in self._stored:
            return _Region(self._stored[value][1][0], value.type.shape[:1], Rows.dense(_whole(value.type)))
        raise CompileError(f"%{value.name} ({value.type}) is used where rows of activations are needed")

    def _emit_rows(
        self,
        operation: Operation,
        make: Callable[..., tirx.PrimFunc],
        key: tuple[object, ...],
        arguments: list[relax.Expr],
    ) -> None:
        """Call a kernel whose results are this operation's, each a dense activation."""
        rows = self._rows_of(operation)
        shapes = [((rows, _whole(result.type, len(rows))), "float32") for result in operation.results]
        if operation.results[0] is self._graph.outputs[0]:
            buffers = [self._call_in_place(make, key, [*arguments, self._logits], (len(arguments),))]
        else:
            buffers = self._call(make, key, arguments, shapes)
        for result, buffer in zip(operation.results, buffers, strict=True):
            self._regions[result] = _Region(buffer, rows, Rows.dense(_whole(result.type, len(rows))))

    def _rows_of(self, operation: Operation) -> tuple[int | str, ...]:
        """The dimensions of the results that have a row each: those of what is computed row by row stay."""
        shape = operation.results[0].type.shape
        if operation.operator == "expert_linear":
            return shape[:2]
        for region in map(self._regions.get, self._sources(operation)):
            if region is not None and len(region.rows) > 1 and shape[:-1] == region.rows:
                return region.rows
        return shape[:1]

    def _sources(self, operation: Operation) -> Iterator[Value]:
        """The operands, and those of what becomes part of the same kernel."""
        for value in operation.operands:
            if value in self._inlined:
                yield from self._sources(self._inlined[value])
            else:
                yield value

    # --- one rule an operator

    def _reshape(self, operation: Operation) -> None:
        (source,) = operation.operands
        region = self._region(source)
        if operation.result.type.shape[: len(region.rows)] != region.rows:
            raise CompileError(
                f"reshape of {source.type} to {operation.result.type} does not keep rows whole"
            )
        self._regions[operation.result] = region

    def _slice(self, operation: Operation) -> None:
        region, axis = self._region(operation.operands[0]), cast(int, operation.attributes["axis"])
        if axis < len(region.rows):
            raise CompileError(f"slice along axis {axis} (%{operation.result.name}) does not keep rows whole")
        if axis > len(region.rows):
            start, stop = (cast(int, operation.attributes[key]) for key in ("start", "stop"))
            self._rearrange(operation, lambda shape, axis: sliced(shape, axis, start, stop))
            return
        inner = _whole(operation.result.type, axis + 1)
        offset = region.view.offset + cast(int, operation.attributes["start"]) * inner
        view = Rows(_whole(operation.result.type, axis), region.view.stride, offset)
        self._regions[operation.result] = _Region(region.buffer, region.rows, view)

    def _rearrange(self, operation: Operation, part: Callable[[Sequence[int], int], Part]) -> None:
        """Copy a part of rows, given their dimensions and the operation's axis among these."""
        (source,) = operation.operands
        region, axis = self._region(source), cast(int, operation.attributes["axis"])
        lead = len(region.rows)
        if axis < lead:
            raise CompileError(f"{operation.operator} (%{operation.result.name}) does not keep rows whole")
        self._copy(operation, (part(_columns_of(source.type, lead), axis - lead),))

    def _copy(self, operation: Operation, parts: tuple[Part, ...]) -> None:
        regions = [self._region(value) for value in operation.operands]
        width = _whole(operation.result.type, len(regions[0].rows))
        key = (tuple(region.view for region in regions), parts, width)
        self._emit_rows(operation, copy_parts, key, [region.buffer for region in regions])

    def _repeat(self, operation: Operation) -> None:
        times = cast(int, operation.attributes["times"])
        self._rearrange(operation, lambda shape, axis: repeated(shape, axis, times))

    def _transpose(self, operation: Operation) -> None:
        (source,) = operation.operands
        lead = len(self._region(source).rows)
        axes = cast("tuple[int, ...]", operation.attributes["axes"])
        if axes[:lead] != tuple(range(lead)):
            raise CompileError(f"transpose (%{operation.result.name}) does not keep rows whole")
        order = [axis - lead for axis in axes[lead:]]
        self._copy(operation, (transposed(_columns_of(source.type, lead), order),))

    def _concat(self, operation: Operation) -> None:
        lead = len(self._region(operation.operands[0]).rows)
        axis = cast(int, operation.attributes["axis"]) - lead
        if axis < 0:
            raise CompileError(f"concat (%{operation.result.name}) does not keep rows whole")
        self._copy(operation, joined([_columns_of(value.type, lead) for value in operation.operands], axis))

    def _embedding(self, operation: Operation) -> None:
        table, token_ids = operation.operands
        parts, variables = self._stored[table]
        vocabulary, width = (int(dim) for dim in table.type.shape)
        key = (vocabulary, width, parts[0].dtype, _stored_format(table.type.element))
        self._emit_rows(operation, embedding, key, [*variables, self._plain[token_ids]])

    def _gather_rows(self, operation: Operation) -> None:
        table, numbers = operation.operands
        region = self._region(table)
        (rows,) = region.rows
        fixed = rows if isinstance(rows, int) else None
        self._emit_rows(operation, gather_rows, (fixed, region.view), [region.buffer, self._plain[numbers]])

    def _rms_norm(self, operation: Operation) -> None:
        *rows, weight = operation.operands
        regions = [self._region(value) for value in rows]
        size, epsilon = int(weight.type.shape[0]), cast(float, operation.attributes["epsilon"])
        residual = regions[1].view if len(regions) == 2 else None
        key = (regions[0].view, size, epsilon, residual)
        arguments = [*(region.buffer for region in regions), self._stored[weight][1][0]]
        self._emit_rows(operation, rms_norm, key, arguments)

    def _layer_norm(self, operation: Operation) -> None:
        num_rows = len(operation.results)
        rows, weights = operation.operands[:num_rows], operation.operands[num_rows:]
        regions = [self._region(value) for value in rows]
        size, epsilon = int(weights[0].type.shape[0]), cast(float, operation.attributes["epsilon"])
        residual = regions[1].view if len(regions) == 2 else None
        key = (regions[0].view, size, epsilon, residual, len(weights) == 2)
        arguments = [region.buffer for region in regions] + [self._stored[weight][1][0] for weight in weights]
        self._emit_rows(operation, layer_norm, key, arguments)

    def _constant(self, operation: Operation) -> None:
        array = np.asarray(operation.attributes["value"])
        if array.size != 1:
            raise CompileError(
                f"%{operation.result.name}: constants other than numbers are parameters on CPU"
            )
        self._numbers[operation.result] = float(array.reshape(()))

    def _elementwise(self, operation: Operation) -> None:
        """Where the only use is elementwise too, it becomes part of that kernel."""
        users = self._graph.users.get(operation.result, ())
        if (
            len(users) == 1
            and users[0].operator in (*UNARY, *BINARY)
            and users[0].result.type == operation.result.type
            and operation.result not in self._graph.outputs
        ):
            self._inlined[operation.result] = operation
            return
        sources: dict[Value, int] = {}
        expression = self._expression(operation, sources)
        arguments = tuple(self._argument_of(source, operation) for source in sources)
        key = (expression, arguments, _whole(operation.result.type, len(self._rows_of(operation))))
        buffers = [self._region(source).buffer for source in sources]
        self._emit_rows(operation, elementwise, key, buffers)

    def _expression(self, operation: Operation, sources: dict[Value, int]) -> Expression:
        """What ``operation`` computes, over arguments that are counted in ``sources``."""

        def term(value: Value) -> Expression:
            if value in self._numbers:
                return self._numbers[value]
            if value in self._inlined:
                return self._expression(self._inlined[value], sources)
            return sources.setdefault(value, len(sources))

        return (operation.operator, *map(term, operation.operands))

    def _argument_of(self, value: Value, operation: Operation) -> Argument:
        view, result = self._region(value).view, operation.result.type
        shape = value.type.shape
        if shape == result.shape or (shape[:1] == result.shape[:1] and view.width == 1):
            return Argument(view)
        vector = tuple(
            dim for index, dim in enumerate(shape) if dim != 1 or any(d != 1 for d in shape[:index])
        )
        if value in self._stored and vector and vector == result.shape[len(result.shape) - len(vector) :]:
            return Argument(Rows.dense(math.prod(int(dim) for dim in vector)), in_every_row=True)
        raise CompileError(
            f"{operation.operator} (%{operation.result.name}) of {value.type} that gives {result} "
            "has no kernel on CPU"
        )

    def _quantize(self, operation: Operation) -> None:
        (source,) = operation.operands
        region = self._region(source)
        element = cast(QuantFormat, operation.result.type.element)
        if element.search_steps or element.bits != 8:
            raise CompileError(
                f"activations cannot be quantized to {element.name}: a dynamic 8-bit format is needed"
            )
        self._rounded[operation.result] = region, element.group_size

    def _codes_of(self, value: Value, chosen: Value | None = None, num_experts: int = 0) -> _Codes:
        """The codes of a quantized activation: of its rows, or of those of ``chosen`` experts in order."""
        if (value, chosen) not in self._codes:
            region, size = self._rounded[value]
            groups = region.view.width // size
            make: Callable[..., tirx.PrimFunc] = quantize_rows
            key: tuple[object, ...] = (region.view, size)
            arguments, rows = [region.buffer], region.rows
            if chosen is not None:
                make, rows = quantize_expert_rows, chosen.type.shape
                key = (*key, num_experts, int(rows[1]), len(region.rows) == 1)
                arguments += [self._plain[chosen], *self._grouping(chosen, num_experts).parts[:2]]
            results = [
                ((rows, region.view.width), "int8"),
                ((rows, groups), "float32"),
                ((rows, groups), "int32"),
            ]
            self._codes[value, chosen] = _Codes(*self._call(make, key, arguments, results))
        return self._codes[value, chosen]

    def _grouping(self, chosen: Value, num_experts: int) -> _Grouping:
        if chosen not in self._groupings:
            key = (num_experts, int(chosen.type.shape[1]))
            table: tuple[Sequence[_Size], str] = ((num_experts + 1,), "int32")
            results: list[tuple[Sequence[_Size], str]] = [((chosen.type.shape,), "int32"), table, table]
            self._groupings[chosen] = _Grouping(
                *self._call(group_by_expert, key, [self._plain[chosen]], results)
            )
        return self._groupings[chosen]

    def _linear(self, operation: Operation) -> None:
        x, weight, *bias = operation.operands
        parts, variables = self._stored[weight]
        outputs, inputs = (int(dim) for dim in weight.type.shape)
        biases = [self._stored[value][1][0] for value in bias]
        element = weight.type.element
        if x in self._rounded:
            weights = cast(QuantFormat, element)
            key: tuple[object, ...] = (
                outputs,
                inputs,
                weights.bits,
                weights.group_size,
                weights.scale_type,
                bool(bias),
            )
            arguments = [*self._codes_of(x).parts, *variables, *biases]
            self._emit_rows(operation, linear_quantized, key, arguments)
            return
        region = self._region_for(operation, element)
        key = (outputs, region.view, parts[0].dtype, bool(bias))
        self._emit_rows(operation, linear_float, key, [region.buffer, *variables, *biases])

    def _region_for(self, operation: Operation, element: ScalarType | QuantFormat) -> _Region:
        """The rows of a product by a weight of ``element``, which must be floats."""
        if isinstance(element, QuantFormat):
            raise CompileError(
                f"{operation.operator} (%{operation.result.name}): a weight in {element.name} "
                "needs quantized rows"
            )
        return self._region(operation.operands[0])

    def _route(self, operation: Operation) -> None:
        logits, *bias = operation.operands
        region = self._region(logits)
        routing = Routing(
            num_experts=int(logits.type.shape[1]), **cast("dict[str, Any]", operation.attributes)
        )
        biases = [self._stored[value][1][0] for value in bias]
        results = [(result.type.shape, result.type.scalar.value) for result in operation.results]
        key = (region.view, routing, bool(bias))
        chosen, weights = self._call(route, key, [region.buffer, *biases], results)
        self._plain[operation.results[0]] = chosen
        count = routing.experts_per_token
        self._regions[operation.results[1]] = _Region(weights, region.rows, Rows.dense(count))

    def _expert_linear(self, operation: Operation) -> None:
        x, weight, chosen, *bias = operation.operands
        _, variables = self._stored[weight]
        experts, outputs, inputs = (int(dim) for dim in weight.type.shape)
        biases = [self._stored[value][1][0] for value in bias]
        grouping, element = self._grouping(chosen, experts), weight.type.element
        if x in self._rounded:
            weights = cast(QuantFormat, element)
            codes = self._codes_of(x, chosen, experts)
            coded = CodedMatrix(outputs, inputs, weights.bits, weights.group_size, weights.scale_type)
            arguments = [*codes.parts, *grouping.parts, *variables, *biases]
            self._emit_rows(operation, expert_linear_quantized, (experts, coded, bool(bias)), arguments)
            return
        region = self._region_for(operation, element)
        matrix = FloatMatrix(outputs, inputs, self._stored[weight][0][0].dtype)
        shared, count = len(region.rows) == 1, int(chosen.type.shape[1])
        key = (experts, count, matrix, region.view, shared, bool(bias))
        arguments = [region.buffer, *grouping.parts, *variables, *biases]
        self._emit_rows(operation, expert_linear_float, key, arguments)

    def _weighted_sum(self, operation: Operation) -> None:
        x, weights = (self._region(value) for value in operation.operands)
        self._emit_rows(operation, weighted_sum, (x.view, weights.view), [x.buffer, weights.buffer])

    def _rope(self, operation: Operation) -> None:
        x, cosines, sines = operation.operands
        region, head_dim = self._region(x), int(x.type.shape[2])
        tables = [self._region(value).buffer for value in (cosines, sines)]
        key = (region.view, head_dim, int(cosines.type.shape[1]), operation.attributes["interleaved"])
        self._emit_rows(operation, rope, key, [region.buffer, *tables])

    def _gate(self, operation: Operation) -> None:
        region = self._region(operation.operands[0])
        activation = operation.operator.removesuffix("_mul")
        self._emit_rows(operation, gate, (region.view, activation), [region.buffer])

    def _append_kv(self, operation: Operation) -> None:
        keys, values, k, v, slots = operation.operands
        _, kv_heads, page_size, _ = (dim if isinstance(dim, int) else 0 for dim in keys.type.shape)
        k_rows, v_rows = self._region(k), self._region(v)
        dtype = keys.type.scalar.value
        key = (k_rows.view, v_rows.view, kv_heads, page_size, dtype)
        caches = [self._plain[keys], self._plain[values]]
        arguments = [*caches, k_rows.buffer, v_rows.buffer, self._plain[slots]]
        written = self._call_in_place(append_kv, key, arguments, (0, 1))
        for index, result in enumerate(operation.results):
            self._plain[result] = self._builder.emit(relax.TupleGetItem(written, index))

    def _ragged_attention(self, operation: Operation) -> None:
        *rows, starts = operation.operands
        regions = [self._region(value) for value in rows]
        (_, heads, head_dim), (_, kv_heads, _) = rows[0].type.shape, rows[1].type.shape
        shape = RaggedShape(
            int(heads),
            int(kv_heads),
            int(head_dim),
            cast(float, operation.attributes["scale"]),
            cast(int, operation.attributes["window"]),
            cast(bool, operation.attributes["causal"]),
        )
        arguments = [*(region.buffer for region in regions), self._plain[starts]]
        self._emit_rows(operation, ragged_attention, (shape, *(region.view for region in regions)), arguments)

    def _pool(self, operation: Operation) -> None:
        rows, starts, _ = operation.operands
        region = self._region(rows)
        key = (region.view, cast(str, operation.attributes["kind"]))
        self._emit_rows(operation, pool, key, [region.buffer, self._plain[starts]])

    def _l2_normalize(self, operation: Operation) -> None:
        region = self._region(operation.operands[0])
        key = (region.view, cast(float, operation.attributes["epsilon"]))
        self._emit_rows(operation, l2_normalize, key, [region.buffer])

    def _paged_attention(self, operation: Operation) -> None:
        q, keys, values, *batch = operation.operands[:6]
        sinks = [self._region(value).buffer for value in operation.operands[6:]]
        region = self._region(q)
        _, heads, head_dim = q.type.shape
        _, kv_heads, page_size, _ = keys.type.shape
        shape = AttentionShape(
            int(heads),
            int(kv_heads),
            int(head_dim),
            int(page_size),
            keys.type.scalar.value,
            cast(float, operation.attributes["scale"]),
            cast(int, operation.attributes["window"]),
            int(values.type.shape[3]),
            cast(float, operation.attributes["soft_cap"]),
            bool(sinks),
        )
        arguments = [region.buffer, *(self._plain[value] for value in (keys, values, *batch)), *sinks]
        self._emit_rows(operation, paged_attention, (shape, region.view), arguments)

    def _paged_conv(self, operation: Operation) -> None:
        slots, x, weight, *rest = operation.operands
        batch, bias = rest[:3], rest[3:]
        region = self._region(x)
        taps, page_size = int(weight.type.shape[0]), cast(int, operation.attributes["page_size"])
        arguments = [
            *(self._plain[slots], region.buffer, self._region(weight).buffer),
            *(self._plain[value] for value in batch),
            *(self._region(value).buffer for value in bias),
        ]
        key = (region.view, taps, page_size, bool(bias))
        self._emit_recurrent(operation, paged_conv, key, arguments)

    def _paged_scan(self, operation: Operation) -> None:
        slots, *operands = operation.operands
        regions = [self._region(value) for value in operands[:7]]
        heads, state, head_dim = (int(dim) for dim in slots.type.shape[1:])
        groups, page_size = int(operands[2].type.shape[1]), cast(int, operation.attributes["page_size"])
        arguments = [
            self._plain[slots],
            *(region.buffer for region in regions),
            *(self._plain[value] for value in operands[7:]),
        ]
        shape = ScanShape(heads, head_dim, groups, state, page_size)
        key = (shape, *(region.view for region in regions[:4]))
        self._emit_recurrent(operation, paged_scan, key, arguments)

    def _emit_recurrent(
        self,
        operation: Operation,
        make: Callable[..., tirx.PrimFunc],
        key: tuple[object, ...],
        arguments: list[relax.Expr],
    ) -> None:
        """Call a kernel that writes to its first argument, slots of state, and whose last are rows."""
        written, rows = operation.results
        width = _whole(rows.type)
        types = [arguments[0].ty, self._tensor((rows.type.shape[0], width), "float32")]
        kernel = self._kernel(make, key)
        called = self._builder.emit(relax.op.call_tir_inplace(kernel, arguments, [0, -1], types))
        self._plain[written] = self._builder.emit(relax.TupleGetItem(called, 0))
        buffer = self._builder.emit(relax.TupleGetItem(called, 1))
        self._regions[rows] = _Region(buffer, rows.type.shape[:1], Rows.dense(width))

    def _head_linear(self, operation: Operation) -> None:
        x, weight = operation.operands
        parts, variables = self._stored[weight]
        heads, outputs, inputs = (int(dim) for dim in weight.type.shape)
        if x in self._rounded:
            element = cast(QuantFormat, weight.type.element)
            coded = CodedMatrix(outputs, inputs, element.bits, element.group_size, element.scale_type)
            arguments = [*self._codes_of(x).parts, *variables]
            self._emit_rows(operation, head_linear_quantized, (heads, coded), arguments)
            return
        region = self._region_for(operation, weight.type.element)
        key = (heads, FloatMatrix(outputs, inputs, parts[0].dtype), region.view)
        self._emit_rows(operation, head_linear_float, key, [region.buffer, *variables])

    def _append_latents(self, operation: Operation) -> None:
        cache, latents, slots = operation.operands
        region = self._region(latents)
        key = (region.view, int(cache.type.shape[2]), cache.type.scalar.value)
        arguments = [self._plain[cache], region.buffer, self._plain[slots]]
        self._plain[operation.result] = self._call_in_place(append_latents, key, arguments, (0,))

    def _paged_latent_attention(self, operation: Operation) -> None:
        q, cache, *batch = operation.operands
        region = self._region(q)
        _, heads, head_dim = q.type.shape
        shape = AttentionShape(
            int(heads),
            1,
            int(head_dim),
            int(cache.type.shape[2]),
            cache.type.scalar.value,
            cast(float, operation.attributes["scale"]),
            window=0,
            value_dim=cast(int, operation.attributes["value_dim"]),
            values_of_keys=True,
        )
        arguments = [region.buffer, *(self._plain[value] for value in (cache, *batch))]
        self._emit_rows(operation, paged_attention, (shape, region.view), arguments)


_RULES: Mapping[str, Callable[[_Lowering, Operation], None]] = {
    **dict.fromkeys((*UNARY, *BINARY), _Lowering._elementwise),
    "add_layer_norm": _Lowering._layer_norm,
    "add_rms_norm": _Lowering._rms_norm,
    "append_kv": _Lowering._append_kv,
    "append_latents": _Lowering._append_latents,
    "concat": _Lowering._concat,
    "constant": _Lowering._constant,
    "embedding": _Lowering._embedding,
    "expert_linear": _Lowering._expert_linear,
    "gather_rows": _Lowering._gather_rows,
    "gelu_mul": _Lowering._gate,
    "gelu_tanh_mul": _Lowering._gate,
    "head_linear": _Lowering._head_linear,
    "layer_norm": _Lowering._layer_norm,
    "l2_normalize": _Lowering._l2_normalize,
    "linear": _Lowering._linear,
    "paged_attention": _Lowering._paged_attention,
    "paged_conv": _Lowering._paged_conv,
    "paged_scan": _Lowering._paged_scan,
    "paged_latent_attention": _Lowering._paged_latent_attention,
    "pool": _Lowering._pool,
    "quantize": _Lowering._quantize,
    "ragged_attention": _Lowering._ragged_attention,
    "repeat": _Lowering._repeat,
    "reshape": _Lowering._reshape,
    "rms_norm": _Lowering._rms_norm,
    "rope": _Lowering._rope,
    "route": _Lowering._route,
    "silu_mul": _Lowering._gate,
    "slice": _Lowering._slice,
    "transpose": _Lowering._transpose,
    "weighted_sum": _Lowering._weighted_sum,
}


def _columns_of(type_: TensorType, lead: int) -> tuple[int, ...]:
    """The dimensions that a row holds, where each of the first ``lead`` has a row."""
    return tuple(int(dim) for dim in type_.shape[lead:])


def _stored_format(element: ScalarType | QuantFormat) -> tuple[int, int, str] | None:
    """(bits, group size, scale type) of a quantized parameter, None of floats."""
    if isinstance(element, ScalarType):
        return None
    return element.bits, element.group_size, element.scale_type


def _identifier(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name)
