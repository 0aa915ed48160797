"""Rounding activations to int8 in groups, as the matrix products take them."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from .coded import ROW_GROUP
from .isa import Isa, intrinsic
from .rows import Rows, load_rows
from .script import Buffer, Expr, T, Vector, broadcast, cast, kernel, load, store, symbol

__all__ = ["find_tile", "quantize_row", "quantize_rows"]


def quantize_rows(isa: Isa, name: str, x: Rows, sum_size: int) -> tirx.PrimFunc:
    """Codes and scales of float32 rows, in groups of :data:`ROW_GROUP`, and sums of ``sum_size`` codes.

    Arguments: ``x`` float32 ``[m, x.stride]``; results: codes int8 ``[m, width]``, scales float32
    ``[m, groups]`` and sums int32 ``[m, width / sum_size]``. A NaN makes its group's scale NaN, so that it is
    not lost. The codes lie tile by tile, as :func:`.tiles.for_tiles` cuts the rows: within a tile of ``h``
    rows ``[width / 4, h, 4]``, so that a product reads them in the order of their addresses.
    """
    groups = x.width // ROW_GROUP

    def body(rows: Buffer, codes: Buffer, scales: Buffer, sums: Buffer) -> None:
        num_rows = rows.shape[0]
        words = T.decl_buffer((num_rows * (x.width // 4),), "int32", data=codes.data)
        with T.parallel(num_rows) as row:

            def place(first_row: Expr, height: int) -> None:
                quantize_row(isa, x, sum_size, rows, (words, scales, sums), row, row, first_row, height)

            find_tile(num_rows, isa.integer_rows, row, place)

    m = symbol("m")
    arguments = [
        ("x", (m, x.stride), "float32"),
        ("codes", (m, x.width), "int8"),
        ("scales", (m, groups), "float32"),
        ("sums", (m, x.width // sum_size), "int32"),
    ]
    return kernel(name, arguments, body)


def find_tile(num_rows: Expr, heights: tuple[int, ...], row: Expr, emit: Callable[[Expr, int], None]) -> None:
    """Emit ``emit(first row, height)`` for the tile of ``row`` as :func:`.tiles.for_tiles` cuts the rows."""

    def among_smaller(heights: tuple[int, ...], first_row: Expr) -> None:
        height = heights[0]
        if len(heights) == 1:
            emit(first_row, height)
            return
        taken = tirx.floormod(num_rows // height, 2) * height
        with T.If(row < first_row + taken):
            with T.Then():
                emit(first_row, height)
            with T.Else():
                among_smaller(heights[1:], first_row + taken)

    largest = heights[0]
    with T.If(row < num_rows // largest * largest):
        with T.Then():
            emit(row // largest * largest, largest)
        with T.Else():
            among_smaller(heights[1:], num_rows // largest * largest)


def quantize_row(
    isa: Isa,
    x: Rows,
    sum_size: int,
    rows: Buffer,
    out: tuple[Buffer, Buffer, Buffer],
    source: Expr,
    row: Expr,
    first_row: Expr,
    height: int,
) -> None:
    """Emit what makes row ``row`` of ``out`` (codes in words of four, scales, sums) of row ``source``.

    The row is in the tile of ``height`` rows that begins with ``first_row``.
    """
    words, scales, sums = out
    group_size, lanes = ROW_GROUP, isa.lanes
    groups = x.width // group_size
    packed = T.alloc_buffer((group_size // 4,), "int32")
    packed_bytes = T.decl_buffer((group_size,), "int8", data=packed.data)
    with T.serial(groups) as group:
        values = [Vector("float32", lanes) for _ in range(group_size // lanes)]
        largest = Vector("float32", lanes)
        largest.fill(T.float32(0))
        for index, value in enumerate(values):
            value.set(load_rows(rows, x, source, group * group_size + index * lanes, lanes))
            magnitude = intrinsic(f"float32x{lanes}", f"llvm.fabs.v{lanes}f32", value.value)
            largest.set(intrinsic(f"float32x{lanes}", f"llvm.maximum.v{lanes}f32", largest.value, magnitude))
        scale = Vector("float32", 1)
        peak = intrinsic("float32", f"llvm.vector.reduce.fmaximum.v{lanes}f32", largest.value)
        scale.set(peak / T.float32(127))
        inverse = Vector("float32", 1)
        inverse.set(tirx.Select(scale.value > T.float32(0), T.float32(1) / scale.value, T.float32(0)))
        totals = [Vector("int32", lanes) for _ in range(group_size // sum_size)]
        for total in totals:
            total.fill(T.int32(0))
        for index, value in enumerate(values):
            code = Vector("int32", lanes)
            rounded = intrinsic(
                f"float32x{lanes}", f"llvm.rint.v{lanes}f32", value.value * broadcast(inverse.value, lanes)
            )
            bounded = tirx.max(
                tirx.min(rounded, broadcast(T.float32(127), lanes)), broadcast(T.float32(-128), lanes)
            )
            code.set(cast("int32", lanes, bounded))
            total = totals[index * lanes // sum_size]
            total.set(total.value + code.value)
            store(packed_bytes, index * lanes, cast("int8", lanes, code.value), lanes)
        store(scales, (row, group), scale.value)
        for index, total in enumerate(totals):
            added = intrinsic("int32", f"llvm.vector.reduce.add.v{lanes}i32", total.value)
            store(sums, (row, group * len(totals) + index), added)
        for four in range(group_size // 4):
            place = (
                first_row * (x.width // 4) + (group * (group_size // 4) + four) * height + (row - first_row)
            )
            store(words, place, load(packed, four))
