"""Rows taken apart, joined, looked up: what computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from ...ir import Operation
from ...ir.errors import CompileError
from ..kernels.pointwise import embedding, gather_rows
from ..kernels.rearrange import (
    Part,
    copy_parts,
    joined,
    permute_columns,
    repeated,
    sliced,
    transposed,
)
from ..kernels.rows import Rows
from .products import matrix_of
from .step import Region, Rule, Step, columns_of, width_of

__all__ = ["RULES"]


def _reshape(step: Step, operation: Operation) -> None:
    (source,) = operation.operands
    region = step.region(source)
    if operation.result.type.shape[: len(region.rows)] != region.rows:
        raise CompileError(f"reshape of {source.type} to {operation.result.type} does not keep rows whole")
    step.regions[operation.result] = region


def _slice(step: Step, operation: Operation) -> None:
    region, axis = step.region(operation.operands[0]), cast(int, operation.attributes["axis"])
    if axis < len(region.rows):
        raise CompileError(f"slice along axis {axis} (%{operation.result.name}) does not keep rows whole")
    if axis > len(region.rows):
        start, stop = (cast(int, operation.attributes[key]) for key in ("start", "stop"))
        _rearrange(step, operation, lambda shape, axis: sliced(shape, axis, start, stop))
        return
    inner = width_of(operation.result.type, axis + 1)
    offset = region.view.offset + cast(int, operation.attributes["start"]) * inner
    view = Rows(width_of(operation.result.type, axis), region.view.stride, offset)
    step.regions[operation.result] = Region(region.buffer, region.rows, view)


def _rearrange(step: Step, operation: Operation, part: Callable[[Sequence[int], int], Part]) -> None:
    """Copy a part of rows, given their dimensions and the operation's axis among these."""
    (source,) = operation.operands
    region, axis = step.region(source), cast(int, operation.attributes["axis"])
    lead = len(region.rows)
    if axis < lead:
        raise CompileError(f"{operation.operator} (%{operation.result.name}) does not keep rows whole")
    _copy(step, operation, (part(columns_of(source.type, lead), axis - lead),))


def _copy(step: Step, operation: Operation, parts: tuple[Part, ...]) -> None:
    regions = [step.region(value) for value in operation.operands]
    width = width_of(operation.result.type, len(regions[0].rows))
    key = (tuple(region.view for region in regions), parts, width)
    step.emit_rows(operation, copy_parts, key, [region.buffer for region in regions])


def _repeat(step: Step, operation: Operation) -> None:
    times = cast(int, operation.attributes["times"])
    _rearrange(step, operation, lambda shape, axis: repeated(shape, axis, times))


def _transpose(step: Step, operation: Operation) -> None:
    (source,) = operation.operands
    lead = len(step.region(source).rows)
    axes = cast("tuple[int, ...]", operation.attributes["axes"])
    if axes[:lead] != tuple(range(lead)):
        raise CompileError(f"transpose (%{operation.result.name}) does not keep rows whole")
    order = [axis - lead for axis in axes[lead:]]
    _copy(step, operation, (transposed(columns_of(source.type, lead), order),))


def _permute(step: Step, operation: Operation) -> None:
    source, order = operation.operands
    region = step.region(source)
    if len(region.rows) != source.type.rank - 1 or order not in step.stored:
        raise CompileError(
            f"permute_columns (%{operation.result.name}) needs rows, and a parameter for the order"
        )
    _, (stored,) = step.stored[order]
    step.emit_rows(operation, permute_columns, (region.view,), [region.buffer, stored])


def _concat(step: Step, operation: Operation) -> None:
    lead = len(step.region(operation.operands[0]).rows)
    axis = cast(int, operation.attributes["axis"]) - lead
    if axis < 0:
        raise CompileError(f"concat (%{operation.result.name}) does not keep rows whole")
    _copy(step, operation, joined([columns_of(value.type, lead) for value in operation.operands], axis))


def _embedding(step: Step, operation: Operation) -> None:
    table, token_ids = operation.operands
    _, variables = step.stored[table]
    step.emit_rows(operation, embedding, (matrix_of(step, table),), [*variables, step.plain[token_ids]])


def _gather_rows(step: Step, operation: Operation) -> None:
    table, numbers = operation.operands
    region = step.region(table)
    (rows,) = region.rows
    fixed = rows if isinstance(rows, int) else None
    step.emit_rows(operation, gather_rows, (fixed, region.view), [region.buffer, step.plain[numbers]])


RULES: Mapping[str, Rule] = {
    "concat": _concat,
    "embedding": _embedding,
    "gather_rows": _gather_rows,
    "permute_columns": _permute,
    "repeat": _repeat,
    "reshape": _reshape,
    "slice": _slice,
    "transpose": _transpose,
}
"""By operator."""
