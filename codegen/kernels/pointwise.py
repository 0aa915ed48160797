"""Kernels that go over rows once: means, rotary embedding, and look-ups."""

from __future__ import annotations

from tvm import tirx

from .coded import CodedMatrix, decode_row
from .float_product import FloatMatrix, blocked_element
from .isa import Isa
from .layout import BLOCK, num_blocks
from .rows import Rows, columns, each_row, load_rows, reduce_add
from .script import Buffer, Expr, T, Vector, broadcast, kernel, load, store, symbol

__all__ = ["embedding", "gather_rows", "mean", "rope"]


def mean(isa: Isa, name: str, x: Rows, size: int, inner: int = 1) -> tirx.PrimFunc:
    """The mean of each ``size`` columns of a row, or of as many that are ``inner`` columns apart.

    Arguments: ``x`` float32 ``[m, x.stride]``; the result ``[m, width / size]``.
    """
    lanes = isa.lanes

    def of_neighbours(rows: Buffer, out: Buffer, row: Expr, part: Expr) -> None:
        sums, tail = Vector("float32", lanes), Vector("float32", 1)
        sums.fill(T.float32(0))
        tail.set(T.float32(0))

        def accumulate(column: Expr, width: int) -> None:
            into = sums if width > 1 else tail
            into.set(into.value + load_rows(rows, x, row, part * size + column, width))

        columns(isa, size, accumulate)
        store(out, (row, part), (reduce_add(lanes, sums.value) + tail.value) / T.float32(size))

    def of_columns_apart(rows: Buffer, out: Buffer, row: Expr, part: Expr) -> None:
        def add_up(column: Expr, width: int) -> None:
            sums = Vector("float32", width)
            sums.fill(T.float32(0))
            with T.serial(size) as index:
                sums.set(sums.value + load_rows(rows, x, row, (part * size + index) * inner + column, width))
            store(out, (row, part * inner + column), sums.value / broadcast(T.float32(size), width), width)

        columns(isa, inner, add_up)

    def body(rows: Buffer, out: Buffer) -> None:
        with T.parallel(rows.shape[0]) as row, T.serial(x.width // (size * inner)) as part:
            (of_neighbours if inner == 1 else of_columns_apart)(rows, out, row, part)

    m = symbol("m")
    arguments = [("x", (m, x.stride), "float32"), ("out", (m, x.width // size), "float32")]
    return kernel(name, arguments, body)


def rope(isa: Isa, name: str, x: Rows, head_dim: int, num_pairs: int, interleaved: bool) -> tirx.PrimFunc:
    """Turn pairs of each head's elements by the row's angles.

    Element i turns with element i + ``num_pairs``, or where they are ``interleaved`` 2i with 2i + 1; what is
    left of a head stays as it is.

    Arguments: ``x`` float32 ``[m, x.stride]``, cosines and sines float32 ``[m, num_pairs]``; the result
    ``[m, width]``.
    """

    def body(rows: Buffer, cosines: Buffer, sines: Buffer, out: Buffer) -> None:
        def turn_head(row: Expr, head: Expr) -> None:
            start = head * head_dim

            def turn(column: Expr, width: int) -> None:
                places = (2 * column, 2 * column + 1) if interleaved else (column, num_pairs + column)
                first, second = Vector("float32", width), Vector("float32", width)
                cosine, sine = Vector("float32", width), Vector("float32", width)
                first.set(load_rows(rows, x, row, start + places[0], width))
                second.set(load_rows(rows, x, row, start + places[1], width))
                cosine.set(load(cosines, (row, column), width))
                sine.set(load(sines, (row, column), width))
                turned = first.value * cosine.value - second.value * sine.value
                store(out, (row, start + places[0]), turned, width)
                turned = second.value * cosine.value + first.value * sine.value
                store(out, (row, start + places[1]), turned, width)

            def keep(column: Expr, width: int) -> None:
                place = start + 2 * num_pairs + column
                store(out, (row, place), load_rows(rows, x, row, place, width), width)

            if interleaved:  # neighbours are of different pairs, so that no vector holds only firsts
                with T.serial(num_pairs) as pair:
                    turn(pair, 1)
            else:
                columns(isa, num_pairs, turn)
            columns(isa, head_dim - 2 * num_pairs, keep)

        def turn_heads(row: Expr) -> None:
            with T.serial(x.width // head_dim) as head:
                turn_head(row, head)

        each_row(rows.shape[0], x.width, turn_heads)

    m = symbol("m")
    arguments = [
        ("x", (m, x.stride), "float32"),
        ("cosines", (m, num_pairs), "float32"),
        ("sines", (m, num_pairs), "float32"),
        ("out", (m, x.width), "float32"),
    ]
    return kernel(name, arguments, body)


def gather_rows(isa: Isa, name: str, table_rows: Expr | None, x: Rows) -> tirx.PrimFunc:
    """Rows of ``x`` by number: ``x`` ``[n, x.stride]``, row numbers int32 ``[m]``, the result ``[m, width]``.

    ``table_rows`` is n where it is fixed, None where it differs from step to step.
    """

    def body(table: Buffer, numbers: Buffer, out: Buffer) -> None:
        def copy_row(row: Expr) -> None:
            def copy(column: Expr, width: int) -> None:
                store(out, (row, column), load_rows(table, x, load(numbers, (row,)), column, width), width)

            columns(isa, x.width, copy)

        each_row(numbers.shape[0], x.width, copy_row)

    n = symbol("n") if table_rows is None else table_rows
    m = symbol("m")
    arguments = [
        ("table", (n, x.stride), "float32"),
        ("numbers", (m,), "int32"),
        ("out", (m, x.width), "float32"),
    ]
    return kernel(name, arguments, body)


def embedding(isa: Isa, name: str, matrix: FloatMatrix | CodedMatrix) -> tirx.PrimFunc:
    """Rows of a blocked table as float32.

    Arguments: the table's own, token ids int32 ``[m]``; the result ``[m, width]``.
    """
    blocks, m, width = num_blocks(matrix.outputs), symbol("m"), matrix.inputs

    def body(*buffers: Buffer) -> None:
        *table, token_ids, out = buffers
        with T.parallel(token_ids.shape[0]) as row:
            token = load(token_ids, (row,))
            block, lane = token // BLOCK, tirx.floormod(token, BLOCK)

            def write(column: Expr, value: tirx.Expr) -> None:
                store(out, (row, column), value)

            if isinstance(matrix, CodedMatrix):
                decode_row(matrix, table, block, lane, write)
            else:
                with T.serial(width) as column:
                    write(column, blocked_element(matrix, table[0], block, column, lane))

    arguments = [
        *matrix.arguments(blocks),
        ("token_ids", (m,), "int32"),
        ("out", (m, width), "float32"),
    ]
    return kernel(name, arguments, body)
