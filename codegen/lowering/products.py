"""Products of rows by weights, of floats or of codes; those of chosen experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from tvm import tirx

from ...ir import Graph, Operation, QuantFormat, Value, find_format
from ...ir.errors import CompileError
from ..kernels.coded import ROW_GROUP, CodedMatrix
from ..kernels.expert_linear_float import expert_linear_float
from ..kernels.experts import (
    Routing,
    expert_linear_quantized,
    group_by_expert,
    quantize_expert_rows,
    route,
    take_chosen,
    weighted_sum,
)
from ..kernels.float_product import FloatMatrix
from ..kernels.latent import head_linear_float, head_linear_quantized
from ..kernels.linear import linear_quantized
from ..kernels.linear_float import linear_float
from ..kernels.quantize import quantize_rows
from ..kernels.row_codes import RowCodes
from ..kernels.rows import Rows
from .step import Codes, Grouping, Region, RoundedRegion, Rule, Size, Step

__all__ = ["RULES", "matrix_of", "row_codes"]

_ROW_FORMATS = ("dynamic_int8_row", "dynamic_int8_g32")


def _quantize(step: Step, operation: Operation) -> None:
    (source,) = operation.operands
    element = cast(QuantFormat, operation.result.type.element)
    if element not in map(find_format, _ROW_FORMATS):
        raise CompileError(
            f"on CPU rows cannot be rounded to {element.name}, but to {' and '.join(_ROW_FORMATS)}: weights "
            "in formats without _a8 leave them as they are"
        )
    # Where the kernel that made the rows made codes of them, there are no others.
    is_made = (operation.result, None) in step.codes
    step.rounded[operation.result] = None if is_made else step.region(source)


def _codes_of(step: Step, value: Value, chosen: Value | None = None, num_experts: int = 0) -> Codes:
    """The codes of a quantized activation: of its rows, or of those of ``chosen`` experts in order."""
    if (value, chosen) not in step.codes:
        region, layout = step.rounded[value], row_codes(step.graph, value)
        assert region is not None
        make: Callable[..., tirx.PrimFunc] = quantize_rows
        key: tuple[object, ...] = (region.view, layout)
        arguments, rows = [region.buffer], region.rows
        if chosen is not None:
            make, rows = quantize_expert_rows, chosen.type.shape
            key = (*key, num_experts, int(rows[1]), len(region.rows) == 1)
            arguments.append(_grouping(step, chosen, num_experts).order)
        results = [((rows, columns), dtype) for _, columns, dtype in layout.columns]
        step.codes[value, chosen] = Codes(*step.call(make, key, arguments, results))
    return step.codes[value, chosen]


def row_codes(graph: Graph, rows: Value) -> RowCodes:
    """How quantized ``rows`` lie; what has more than two dimensions are pieces, or rows of experts."""
    inputs, element = int(rows.type.shape[-1]), rows.type.element
    assert isinstance(element, QuantFormat)
    users = graph.users.get(rows, ())
    heads = any(user.operator == "head_linear" for user in users)
    pieces = int(rows.type.shape[1]) if heads else 1
    return RowCodes(inputs, element.group_size or inputs, _row_sum_size(graph, rows), pieces)


def matrix_of(step: Step, weight: Value, rows: Value | None = None) -> FloatMatrix | CodedMatrix:
    """How a product with ``rows``, or a look-up, sees a weight."""
    outputs, inputs = (int(dim) for dim in weight.type.shape[-2:])
    element = weight.type.element
    if not isinstance(element, QuantFormat):
        return FloatMatrix(outputs, inputs, step.stored[weight][0][0].dtype)
    if rows not in step.rounded:
        return CodedMatrix(outputs, inputs, element)
    return CodedMatrix(outputs, inputs, element, _row_sum_size(step.graph, rows))


def _row_sum_size(graph: Graph, rows: Value | None) -> int:
    """How many codes of quantized ``rows`` are added up for the weights that they meet: as any needs it."""
    users = () if rows is None else graph.users.get(rows, ())
    elements = (operation.operands[1].type.element for operation in users)
    sizes = (element.group_size for element in elements if isinstance(element, QuantFormat))
    return min([ROW_GROUP, *filter(None, sizes)])


def _rows(step: Step, value: Value) -> Region | RoundedRegion:
    """Rows of floats that a product takes."""
    return step.pairs.get(value) or step.region(value)


def _linear(step: Step, operation: Operation) -> None:
    x, weight, *bias = operation.operands
    matrix, (_, variables) = matrix_of(step, weight, x), step.stored[weight]
    biases = [step.stored[value][1][0] for value in bias]
    if x in step.rounded and isinstance(matrix, CodedMatrix):
        arguments = [*_codes_of(step, x).parts, *variables, *biases]
        step.emit_rows(operation, linear_quantized, (matrix, bool(bias)), arguments)
        return
    region = _rows(step, x)
    key = (matrix, region.view, bool(bias))
    step.emit_rows(operation, linear_float, key, [region.buffer, *variables, *biases])


def _head_linear(step: Step, operation: Operation) -> None:
    x, weight = operation.operands
    matrix, (_, variables), heads = matrix_of(step, weight, x), step.stored[weight], int(weight.type.shape[0])
    if x in step.rounded and isinstance(matrix, CodedMatrix):
        arguments = [*_codes_of(step, x).parts, *variables]
        step.emit_rows(operation, head_linear_quantized, (heads, matrix), arguments)
        return
    region = _rows(step, x)
    step.emit_rows(operation, head_linear_float, (heads, matrix, region.view), [region.buffer, *variables])


def _grouping(step: Step, chosen: Value, num_experts: int) -> Grouping:
    if chosen not in step.groupings:
        key = (num_experts, int(chosen.type.shape[1]))
        table: tuple[Sequence[Size], str] = ((num_experts + 1,), "int32")
        results: list[tuple[Sequence[Size], str]] = [((chosen.type.shape,), "int32"), table, table]
        step.groupings[chosen] = Grouping(*step.call(group_by_expert, key, [step.plain[chosen]], results))
    return step.groupings[chosen]


def _route(step: Step, operation: Operation) -> None:
    logits, *bias = operation.operands
    region = step.region(logits)
    routing = Routing(num_experts=int(logits.type.shape[1]), **cast("dict[str, Any]", operation.attributes))
    biases = [step.stored[value][1][0] for value in bias]
    results = [(result.type.shape, result.type.scalar.value) for result in operation.results]
    key = (region.view, routing, bool(bias))
    chosen, weights = step.call(route, key, [region.buffer, *biases], results)
    step.plain[operation.results[0]] = chosen
    count = routing.experts_per_token
    step.regions[operation.results[1]] = Region(weights, region.rows, Rows.dense(count))


def _expert_linear(step: Step, operation: Operation) -> None:
    x, weight, chosen, *bias = operation.operands
    matrix, (_, variables), experts = (
        matrix_of(step, weight, x),
        step.stored[weight],
        int(weight.type.shape[0]),
    )
    biases = [step.stored[value][1][0] for value in bias]
    grouping = _grouping(step, chosen, experts)
    if x in step.rounded and isinstance(matrix, CodedMatrix):
        codes = _codes_of(step, x, chosen, experts)
        arguments = [*codes.parts, *grouping.parts, *variables, *biases]
        step.emit_rows(operation, expert_linear_quantized, (experts, matrix, bool(bias)), arguments)
        return
    region = _rows(step, x)
    shared, count = len(region.rows) == 1, int(chosen.type.shape[1])
    key = (experts, count, matrix, region.view, shared, bool(bias))
    arguments = [region.buffer, *grouping.parts, *variables, *biases]
    step.emit_rows(operation, expert_linear_float, key, arguments)


def _take_chosen(step: Step, operation: Operation) -> None:
    x, chosen = operation.operands
    region, count = step.region(x), int(chosen.type.shape[1])
    step.emit_rows(operation, take_chosen, (region.view, count), [region.buffer, step.plain[chosen]])


def _weighted_sum(step: Step, operation: Operation) -> None:
    x, weights = (step.region(value) for value in operation.operands)
    step.emit_rows(operation, weighted_sum, (x.view, weights.view), [x.buffer, weights.buffer])


RULES: Mapping[str, Rule] = {
    "expert_linear": _expert_linear,
    "head_linear": _head_linear,
    "linear": _linear,
    "quantize": _quantize,
    "route": _route,
    "take_chosen": _take_chosen,
    "weighted_sum": _weighted_sum,
}
"""By operator."""
