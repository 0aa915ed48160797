"""Rows taken apart, joined, looked up: what computes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from ....ir import Operation
from ....ir.errors import CompileError
from ...kernels.rearrange import Part, joined, repeated, sliced, transposed
from ...kernels.rows import Rows
from ...lowering.step import columns_of, width_of
from ..planning import Planning, Region, Rule, row_type, size_of
from .products import weights_of
from .rowwise import THREADS

__all__ = ["RULES"]

_COPIED_AT_ONCE = 24
"""Operands of which one kernel copies: no machine takes any number of arguments."""


def _reshape(planning: Planning, operation: Operation) -> None:
    (source,) = operation.operands
    region = planning.region(source)
    if operation.result.type.shape[0] != region.rows:
        raise CompileError(f"reshape of {source.type} to {operation.result.type} does not keep rows whole")
    _see(planning, operation, region)


def _slice(planning: Planning, operation: Operation) -> None:
    (source,) = operation.operands
    axis, start, stop = (cast(int, operation.attributes[key]) for key in ("axis", "start", "stop"))
    region = planning.region(source)
    if axis != 1:
        _rearrange(planning, operation, lambda shape, axis: sliced(shape, axis, start, stop))
        return
    inner = width_of(operation.result.type, 2)
    view = Rows(width_of(operation.result.type), region.view.stride, region.view.offset + start * inner)
    _see(planning, operation, Region(region.array, region.rows, view))


def _see(planning: Planning, operation: Operation, region: Region) -> None:
    """The result is a part of what there is; a copy of that where it is what the step gives."""
    planning.regions[operation.result] = region
    if operation.result in planning.graph.outputs:
        _copy(planning, operation, [region], (sliced((region.view.width,), 0, 0, region.view.width),))


def _rearrange(planning: Planning, operation: Operation, part: Callable[[Sequence[int], int], Part]) -> None:
    (source,) = operation.operands
    axis = cast(int, operation.attributes["axis"])
    if axis < 1:
        raise CompileError(f"{operation.operator} (%{operation.result.name}) does not keep rows whole")
    _copy(planning, operation, [planning.region(source)], (part(columns_of(source.type, 1), axis - 1),))


def _repeat(planning: Planning, operation: Operation) -> None:
    times = cast(int, operation.attributes["times"])
    _rearrange(planning, operation, lambda shape, axis: repeated(shape, axis, times))


def _transpose(planning: Planning, operation: Operation) -> None:
    (source,) = operation.operands
    axes = cast("tuple[int, ...]", operation.attributes["axes"])
    if axes[0] != 0:
        raise CompileError(f"transpose (%{operation.result.name}) does not keep rows whole")
    order = [axis - 1 for axis in axes[1:]]
    parts = (transposed(columns_of(source.type, 1), order),)
    _copy(planning, operation, [planning.region(source)], parts)


def _concat(planning: Planning, operation: Operation) -> None:
    axis = cast(int, operation.attributes["axis"]) - 1
    if axis < 0:
        raise CompileError(f"concat (%{operation.result.name}) does not keep rows whole")
    regions = [planning.region(value) for value in operation.operands]
    parts = joined([columns_of(value.type, 1) for value in operation.operands], axis)
    _copy(planning, operation, regions, parts)


def _copy(
    planning: Planning, operation: Operation, regions: Sequence[Region], parts: tuple[Part, ...]
) -> None:
    """Copy a part of each region's rows."""
    out = planning.result(operation.result, regions[0].rows, width_of(operation.result.type))
    for start in range(0, len(parts), _COPIED_AT_ONCE):
        _copy_some(planning, out, regions[start:][:_COPIED_AT_ONCE], parts[start:][:_COPIED_AT_ONCE])


def _copy_some(planning: Planning, out: Region, regions: Sequence[Region], parts: Sequence[Part]) -> None:
    statements = []
    for number, (region, part) in enumerate(zip(regions, parts, strict=True)):
        count = math.prod(loop[0] for loop in part.loops)
        source, place, inner = [str(part.start)], [str(part.place)], 1
        for size, step, further in reversed(part.loops):
            source.append(f"i / {inner} % {size} * {step}")
            place.append(f"i / {inner} % {size} * {further}")
            inner *= size
        row = f"{row_type(region.view)}::at(x{number}, here.block_x())"
        target = f"out[(int64)here.block_x() * {out.view.width} + {' + '.join(place)}]"
        statements.append(
            f"for (int i = here.thread_index(); i < {count}; i += {THREADS}) "
            f"{target} = {row}[{' + '.join(source)}];"
        )
    arguments = [(f"GLOBAL const float* x{number}", region.array) for number, region in enumerate(regions)]
    planning.launch(
        "copy_parts",
        " ".join(statements),
        [*arguments, ("GLOBAL float* out", out.array)],
        (size_of(out.rows),),
        THREADS,
    )


def _gather_rows(planning: Planning, operation: Operation) -> None:
    table, numbers = operation.operands
    region, rows = planning.region(table), operation.result.type.shape[0]
    out = planning.result(operation.result, rows, region.view.width)
    body = f"gather_rows<{THREADS}, {row_type(region.view)}>(here, table, numbers, out);"
    arguments = [
        ("GLOBAL const float* table", region.array),
        ("GLOBAL const int* numbers", planning.plain[numbers]),
        ("GLOBAL float* out", out.array),
    ]
    planning.launch("gather_rows", body, arguments, (size_of(rows),), THREADS)


def _permute(planning: Planning, operation: Operation) -> None:
    source, order = operation.operands
    x = planning.region(source)
    if source.type.rank != 2:
        raise CompileError(f"permute_columns (%{operation.result.name}) needs rows, not {source.type}")
    out = planning.result(operation.result, x.rows, x.view.width)
    body = f"permute_columns<{THREADS}, {row_type(x.view)}>(here, x, order, out);"
    arguments = [
        ("GLOBAL const float* x", x.array),
        ("GLOBAL const int* order", planning.parameter(order)),
        ("GLOBAL float* out", out.array),
    ]
    planning.launch("permute_columns", body, arguments, (size_of(x.rows),), THREADS)


def _embedding(planning: Planning, operation: Operation) -> None:
    table, token_ids = operation.operands
    rows, width = operation.result.type.shape[0], width_of(operation.result.type)
    out = planning.result(operation.result, rows, width)
    weights = weights_of(planning, table)
    arguments = [
        *weights.arguments,
        ("GLOBAL const int* token_ids", planning.plain[token_ids]),
        ("GLOBAL float* out", out.array),
    ]
    body = f"embedding<{THREADS}, {width}>(here, {weights.value}, token_ids, out);"
    planning.launch("embedding", body, arguments, (size_of(rows),), THREADS)


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
