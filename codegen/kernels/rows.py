"""Rows: how kernels see activations, and what several kernels do with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from .isa import Isa, fma, intrinsic
from .script import Buffer, Expr, T, Vector, broadcast, cast, load, reinterpret, vector_type

__all__ = [
    "RoundedRows",
    "Rows",
    "bfloat16_bits",
    "columns",
    "each_row",
    "exponential",
    "hyperbolic_tangent",
    "load_float",
    "load_rows",
    "reduce_add",
    "reduce_max",
    "softplus",
    "to_bfloat16",
    "vectors",
]

_FEW_ELEMENTS = 4096
"""What one thread does in the microseconds that it takes to start all others and to wait for them."""


@dataclass(frozen=True)
class Rows:
    """``width`` float32 columns from ``offset`` of rows that are ``stride`` apart.

    A slice of a fused projection, or heads split off a row, are Rows of the same buffer: nothing is moved.
    """

    width: int
    stride: int
    offset: int = 0

    @classmethod
    def dense(cls, width: int) -> Rows:
        """Rows that fill their buffer."""
        return cls(width, width)


@dataclass(frozen=True)
class RoundedRows:
    """``width`` columns that were rounded to bfloat16, in uint16, filled up with zeros."""

    width: int

    @property
    def stride(self) -> int:
        """Columns in all: whole lines of cache of 64 bytes, and an odd number of them, so that neighbouring
        rows are not kept in the same places of a cache.
        """
        return (-(-self.width // 32) | 1) * 32


def columns(isa: Isa, width: int, emit: Callable[[Expr, int], None]) -> None:
    """Emit ``emit(column, lanes)`` over ``width`` columns: whole vectors, then single elements."""
    if width // isa.lanes:
        with T.serial(width // isa.lanes) as index:
            emit(index * isa.lanes, isa.lanes)
    for column in range(width // isa.lanes * isa.lanes, width):
        emit(column, 1)


def each_row(num_rows: Expr, width: int, emit: Callable[[Expr], None]) -> None:
    """Emit ``emit(row)`` over rows of ``width`` elements, on all threads.

    A few are left to the caller's alone: they are done before others would have begun.
    """
    with T.If(num_rows <= max(1, _FEW_ELEMENTS // width)):
        with T.Then(), T.serial(num_rows) as row:
            emit(row)
        with T.Else(), T.parallel(num_rows) as row:
            emit(row)


def vectors(width: int, lanes: int) -> list[tuple[int, int]]:
    """Columns and widths of the vectors that cover ``width`` elements; single elements at the end."""
    whole = width // lanes * lanes
    return [(c, lanes) for c in range(0, whole, lanes)] + [(c, 1) for c in range(whole, width)]


def load_rows(buffer: Buffer, view: Rows, row: Expr, column: Expr, lanes: int = 1) -> tirx.Expr:
    """``lanes`` columns of a row of a view."""
    return load(buffer, (row, view.offset + column), lanes)


def load_float(buffer: Buffer, index: Expr | tuple[Expr, ...], lanes: int, dtype: str) -> tirx.Expr:
    """``lanes`` neighbours as float32; ``uint16`` holds the bits of bfloat16."""
    value = load(buffer, index, lanes)
    if dtype == "float32":
        return value
    if dtype == "uint16":
        wide = T.shift_left(cast("uint32", lanes, value), broadcast(T.uint32(16), lanes))
        return reinterpret(vector_type("float32", lanes), wide)
    return cast("float32", lanes, value)


def bfloat16_bits(lanes: int, value: tirx.Expr) -> tirx.Expr:
    """The bits, uint32, of float32 rounded to bfloat16, the low half zero; what is no number stays none."""

    def constant(number: int) -> tirx.Expr:
        return broadcast(T.uint32(number), lanes)

    bits = Vector("uint32", lanes)
    bits.set(reinterpret(vector_type("uint32", lanes), value))
    odd = T.bitwise_and(T.shift_right(bits.value, constant(16)), constant(1))
    nearest = bits.value + constant(0x7FFF) + odd
    is_number = T.bitwise_and(bits.value, constant(0x7FFFFFFF)) <= constant(0x7F800000)
    quiet = T.bitwise_or(bits.value, constant(0x00400000))
    return T.bitwise_and(tirx.Select(is_number, nearest, quiet), constant(0xFFFF0000))


def to_bfloat16(lanes: int, value: tirx.Expr) -> tirx.Expr:
    """Float32 rounded to bfloat16, in uint16."""
    high = T.shift_right(bfloat16_bits(lanes, value), broadcast(T.uint32(16), lanes))
    return cast("uint16", lanes, high)


def reduce_max(lanes: int, value: tirx.Expr) -> tirx.Expr:
    """The largest lane, by halves; LLVM's own reduction goes lane by lane, as NaN might be among them."""
    while lanes > 1:
        lanes //= 2
        part = Vector("float32", lanes)
        halves = [tirx.Shuffle([value], list(range(first, first + lanes))) for first in (0, lanes)]
        part.set(tirx.max(*halves))
        value = part.value
    return value


def reduce_add(lanes: int, value: tirx.Expr) -> tirx.Expr:
    """The sum of the lanes, first to last."""
    if lanes == 1:
        return value
    return intrinsic("float32", f"llvm.vector.reduce.fadd.v{lanes}f32", T.float32(0), value)


def exponential(isa: Isa, lanes: int, x: tirx.Expr) -> tirx.Expr:
    """``exp(x)`` for finite or -inf ``x``, to about 1e-7 relative; exactly 0 below -87.

    ``2**n * exp(r)`` with ``|r| <= log(2) / 2`` and the polynomial of Cephes' ``expf`` (Moshier).
    """
    vector = vector_type("float32", lanes)

    def constant(value: float) -> tirx.Expr:
        return broadcast(T.float32(value), lanes)

    clamped = tirx.min(tirx.max(x, constant(-87.0)), constant(88.0))
    suffix = "f32" if lanes == 1 else f"v{lanes}f32"
    n = intrinsic(vector, f"llvm.rint.{suffix}", clamped * constant(1.44269504088896341))
    r = fma(lanes, n, constant(-0.693359375), clamped)
    r = fma(lanes, n, constant(2.12194440e-4), r)
    y = constant(1.9875691500e-4)
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        y = fma(lanes, y, r, constant(coefficient))
    y = fma(lanes, y, r * r, r + constant(1.0))
    exponent = cast("int32", lanes, n) + broadcast(T.int32(127), lanes)
    power = reinterpret(vector, T.shift_left(exponent, broadcast(T.int32(23), lanes)))
    return tirx.Select(x < constant(-87.0), constant(0.0), y * power)


def hyperbolic_tangent(isa: Isa, lanes: int, x: tirx.Expr) -> tirx.Expr:
    """``tanh(x)``, to about 2e-7 relative, in the two parts of Cephes' ``tanhf`` (Moshier).

    A polynomial up to 0.625, and ``1 - 2 / (exp(2 |x|) + 1)``, with the sign of ``x``, from there on.
    """

    def constant(value: float) -> tirx.Expr:
        return broadcast(T.float32(value), lanes)

    suffix = "f32" if lanes == 1 else f"v{lanes}f32"
    vector = vector_type("float32", lanes)
    size = intrinsic(vector, f"llvm.fabs.{suffix}", x)
    square = x * x
    y = constant(-5.70498872745e-3)
    for coefficient in (2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1):
        y = fma(lanes, y, square, constant(coefficient))
    near = fma(lanes, y * square, x, x)
    far = constant(1.0) - constant(2.0) / (exponential(isa, lanes, size + size) + constant(1.0))
    signed = intrinsic(vector, f"llvm.copysign.{suffix}", far, x)
    return tirx.Select(size < constant(0.625), near, signed)


def softplus(isa: Isa, x: tirx.Expr) -> tirx.Expr:
    """``log(1 + exp(x))`` of a scalar, to about 1e-7 relative.

    ``max(x, 0) + log1p(y)`` with ``y = exp(-|x|)``, and ``log1p(y) = 2 atanh(y / (2 + y))`` by its series,
    whose argument is at most a third.
    """
    y, s, square = Vector("float32", 1), Vector("float32", 1), Vector("float32", 1)
    y.set(exponential(isa, 1, T.float32(0) - intrinsic("float32", "llvm.fabs.f32", x)))
    s.set(y.value / (T.float32(2) + y.value))
    square.set(s.value * s.value)
    series = Vector("float32", 1)
    series.set(T.float32(2 / 15))
    for odd in (13, 11, 9, 7, 5, 3, 1):
        series.set(fma(1, series.value, square.value, T.float32(2 / odd)))
    return tirx.max(x, T.float32(0)) + series.value * s.value
