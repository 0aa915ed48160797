"""Rounding rows of activations to bfloat16."""

from __future__ import annotations

from tvm import tirx

from .isa import Isa
from .rows import RoundedRows, Rows, bfloat16_bits, columns, load_rows, to_bfloat16
from .script import (
    Buffer,
    Expr,
    T,
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
                value = load_rows(rows, x, row, column, lanes)
                if as_pairs:
                    store(out, (row, column), to_bfloat16(lanes, value), lanes)
                else:
                    bits = bfloat16_bits(lanes, value)
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
