"""Rounding rows of activations to bfloat16."""

from __future__ import annotations

from tvm import tirx

from .isa import Isa
from .rows import RoundedRows, Rows, columns, load_rows
from .script import (
    Buffer,
    Expr,
    T,
    Vector,
    broadcast,
    cast,
    kernel,
    reinterpret,
    store,
    symbol,
    vector_type,
)

__all__ = ["round_rows"]


def round_rows(isa: Isa, name: str, x: Rows, as_pairs: bool) -> tirx.PrimFunc:
    """Rows of floats, each the nearest bfloat16, of two as near the even one.

    Arguments: ``x`` float32 ``[m, x.stride]``; the result uint16 as :class:`RoundedRows` lie, or, unless
    ``as_pairs``, float32 ``[m, x.width]`` of the same values.
    """
    rounded = RoundedRows(x.width)

    def body(rows: Buffer, out: Buffer) -> None:
        with T.parallel(rows.shape[0]) as row:

            def emit(column: Expr, lanes: int) -> None:
                bits = _rounded(load_rows(rows, x, row, column, lanes), lanes)
                if as_pairs:
                    high = T.shift_right(bits, broadcast(T.uint32(16), lanes))
                    store(out, (row, column), cast("uint16", lanes, high), lanes)
                else:
                    store(out, (row, column), reinterpret(vector_type("float32", lanes), bits), lanes)

            columns(isa, x.width, emit)
            if as_pairs:
                with T.serial(rounded.stride - x.width) as index:
                    store(out, (row, x.width + index), T.uint16(0))

    m = symbol("m")
    result: tuple[tuple[Expr, ...], str] = ((m, rounded.stride), "uint16")
    if not as_pairs:
        result = ((m, x.width), "float32")
    return kernel(name, [("x", (m, x.stride), "float32"), ("out", *result)], body)


def _rounded(value: tirx.Expr, lanes: int) -> tirx.Expr:
    """The bits, uint32, of float32 rounded so that the low half is zero; what is no number stays none."""

    def constant(number: int) -> tirx.Expr:
        return broadcast(T.uint32(number), lanes)

    bits = Vector("uint32", lanes)
    bits.set(reinterpret(vector_type("uint32", lanes), value))
    odd = T.bitwise_and(T.shift_right(bits.value, constant(16)), constant(1))
    nearest = bits.value + constant(0x7FFF) + odd
    is_number = T.bitwise_and(bits.value, constant(0x7FFFFFFF)) <= constant(0x7F800000)
    quiet = T.bitwise_or(bits.value, constant(0x00400000))
    return T.bitwise_and(tirx.Select(is_number, nearest, quiet), constant(0xFFFF0000))
