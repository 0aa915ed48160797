"""Rounding rows of activations to int8, as the matrix products take them."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from .isa import Isa, intrinsic
from .row_codes import RowCodes
from .rows import Rows, load_rows
from .script import Buffer, Expr, T, Vector, broadcast, cast, kernel, store, symbol

__all__ = ["quantize_row", "quantize_rows"]

_AT_ONCE = 32
"""Elements that a turn of a loop rounds; groups and rows are whole numbers of them."""


def quantize_rows(isa: Isa, name: str, x: Rows, layout: RowCodes) -> tirx.PrimFunc:
    """Codes, scales and sums of float32 rows, as :mod:`.row_codes` lays them out.

    Arguments: ``x`` float32 ``[m, x.stride]``, and the results. A NaN makes its group's scale NaN, so that it
    is not lost.
    """

    def body(rows: Buffer, codes: Buffer, scales: Buffer, sums: Buffer) -> None:
        with T.parallel(rows.shape[0]) as row:
            quantize_row(isa, x, layout, rows, (codes, scales, sums), row, row)

    m = symbol("m")
    arguments = [("x", (m, x.stride), "float32"), *layout.arguments(m)]
    return kernel(name, arguments, body)


def quantize_row(
    isa: Isa,
    x: Rows,
    layout: RowCodes,
    rows: Buffer,
    out: tuple[Buffer, Buffer, Buffer],
    source: Expr,
    row: Expr,
) -> None:
    """Emit what makes row ``row`` of ``out`` (codes, scales, sums) of row ``source``."""
    codes, scales, sums = out
    size, num_groups, num_sums = layout.group_size, layout.num_groups, layout.num_sums
    with T.serial(layout.pieces) as piece:
        whole = Vector("int32", 1)
        whole.set(T.int32(0))
        with T.serial(num_groups) as group:
            first = piece * layout.inputs + group * size

            def values(turn: Expr, first: Expr = first) -> list[Vector]:
                """The elements of a turn."""
                loaded = [Vector("float32", isa.lanes) for _ in range(_AT_ONCE // isa.lanes)]
                for index, value in enumerate(loaded):
                    column = first + turn * _AT_ONCE + index * isa.lanes
                    value.set(load_rows(rows, x, source, column, isa.lanes))
                return loaded

            scale = _scale_of(isa, size, values)
            store(scales, (row, piece * num_groups + group), scale.value)
            inverse = Vector("float32", 1)
            inverse.set(tirx.Select(scale.value > T.float32(0), T.float32(1) / scale.value, T.float32(0)))
            with T.serial(size // _AT_ONCE) as turn:
                totals = [Vector("int32", isa.lanes) for _ in range(_AT_ONCE // layout.sum_size)]
                for total in totals:
                    total.fill(T.int32(0))
                for index, value in enumerate(values(turn)):
                    code = _round(isa, value, inverse)
                    total = totals[index * isa.lanes // layout.sum_size]
                    total.set(total.value + code.value)
                    column = first + turn * _AT_ONCE + index * isa.lanes
                    store(codes, (row, column), cast("int8", isa.lanes, code.value), isa.lanes)
                for index, total in enumerate(totals):
                    added = Vector("int32", 1)
                    added.set(intrinsic("int32", f"llvm.vector.reduce.add.v{isa.lanes}i32", total.value))
                    number = (group * (size // _AT_ONCE) + turn) * len(totals) + index
                    store(sums, (row, piece * num_sums + number), added.value)
                    whole.set(whole.value + added.value)
        store(sums, (row, piece * num_sums + num_sums - 1), whole.value)
    with T.serial((layout.stride - layout.width) // _AT_ONCE) as turn:
        for byte in range(0, _AT_ONCE, isa.bytes):
            place = layout.width + turn * _AT_ONCE + byte
            store(
                codes, (row, place), broadcast(T.int8(0), min(isa.bytes, _AT_ONCE)), min(isa.bytes, _AT_ONCE)
            )


def _scale_of(isa: Isa, size: int, values: Callable[[Expr], list[Vector]]) -> Vector:
    """What lets the largest magnitude of a group be 127."""
    lanes, at_once = isa.lanes, _AT_ONCE // isa.lanes
    largest = [Vector("float32", lanes) for _ in range(at_once)]
    for vector in largest:
        vector.fill(T.float32(0))
    with T.serial(size // _AT_ONCE) as turn:
        for vector, value in zip(largest, values(turn), strict=True):
            vector.set(
                _larger(lanes, vector, intrinsic(f"float32x{lanes}", f"llvm.fabs.v{lanes}f32", value.value))
            )
    for vector in largest[1:]:
        largest[0].set(_larger(lanes, largest[0], vector.value))
    scale = Vector("float32", 1)
    peak = intrinsic("float32", f"llvm.vector.reduce.fmaximum.v{lanes}f32", largest[0].value)
    scale.set(peak / T.float32(127))
    return scale


def _larger(lanes: int, first: Vector, second: tirx.Expr) -> tirx.Expr:
    """The larger of each lane, NaN where there is one."""
    return intrinsic(f"float32x{lanes}", f"llvm.maximum.v{lanes}f32", first.value, second)


def _round(isa: Isa, value: Vector, inverse: Vector) -> Vector:
    """The codes of a vector of elements, int32."""
    lanes = isa.lanes
    scaled = value.value * broadcast(inverse.value, lanes)
    rounded = intrinsic(f"float32x{lanes}", f"llvm.rint.v{lanes}f32", scaled)
    most, least = broadcast(T.float32(127), lanes), broadcast(T.float32(-128), lanes)
    code = Vector("int32", lanes)
    code.set(cast("int32", lanes, tirx.max(tirx.min(rounded, most), least)))
    return code
