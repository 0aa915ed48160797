"""Functions of one and of two elements, vector by vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from tvm import tirx

from .isa import Isa, fma, intrinsic
from .rows import exponential, hyperbolic_tangent
from .script import T, Vector, broadcast, cast, reinterpret, vector_type

__all__ = ["BINARY", "CHOICES", "UNARY"]

Unary = Callable[[Isa, int, tirx.Expr], tirx.Expr]


def _constant(value: float, lanes: int) -> tirx.Expr:
    return broadcast(T.float32(value), lanes)


def _sigmoid(isa: Isa, lanes: int, x: tirx.Expr) -> tirx.Expr:
    one = _constant(1, lanes)
    return one / (one + exponential(isa, lanes, _constant(0, lanes) - x))


def _silu(isa: Isa, lanes: int, x: tirx.Expr) -> tirx.Expr:
    return x / (_constant(1, lanes) + exponential(isa, lanes, _constant(0, lanes) - x))


def _gelu_tanh(isa: Isa, lanes: int, x: tirx.Expr) -> tirx.Expr:
    """``x`` times the sigmoid of twice what the tanh is of, which is exact far from zero too."""
    factor = -2 * math.sqrt(2 / math.pi)
    inner = x * fma(lanes, x * x, _constant(factor * 0.044715, lanes), _constant(factor, lanes))
    return x / (_constant(1, lanes) + exponential(isa, lanes, inner))


_TAIL = (
    *(-0.058891423, 0.28370503, -0.4853898, 0.27598482, -0.025182033),
    *(0.20207156, 0.2432606, 0.28235355, 0.28208768),
)
"""``erfc(z) * exp(z * z) / t`` as a polynomial in ``t = 1 / (1 + z / 2)``, fitted here over z up to 9.5."""


def _gelu(isa: Isa, lanes: int, x: tirx.Expr) -> tirx.Expr:
    """``x`` times the normal distribution function, by the tail beyond ``|x|``: to about 1e-6 relative."""
    vector, suffix = vector_type("float32", lanes), "f32" if lanes == 1 else f"v{lanes}f32"
    size, t, tail = (Vector("float32", lanes) for _ in range(3))
    size.set(intrinsic(vector, f"llvm.fabs.{suffix}", x) * _constant(math.sqrt(0.5), lanes))
    t.set(_constant(1, lanes) / fma(lanes, size.value, _constant(0.5, lanes), _constant(1, lanes)))
    tail.set(_constant(_TAIL[0], lanes))
    for coefficient in _TAIL[1:]:
        tail.set(fma(lanes, tail.value, t.value, _constant(coefficient, lanes)))
    below = exponential(isa, lanes, _constant(0, lanes) - size.value * size.value)
    share = _constant(0.5, lanes) * tail.value * t.value * below
    return x * tirx.Select(x < _constant(0, lanes), share, _constant(1, lanes) - share)


_LOGARITHM = (
    *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
    *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
"""Cephes' polynomial of ``logf`` (Moshier): ``log(1 + r)`` beyond ``r - r * r / 2``, over ``r ** 3``."""


def _logarithm(isa: Isa, lanes: int, x: tirx.Expr) -> tirx.Expr:
    """``log(x)`` of normal numbers, to about 1e-7 relative; -inf of 0, and NaN below."""
    bits, exponent, r = Vector("int32", lanes), Vector("float32", lanes), Vector("float32", lanes)

    def integers(value: int) -> tirx.Expr:
        return broadcast(T.int32(value), lanes)

    bits.set(reinterpret(vector_type("int32", lanes), x))
    exponent.set(cast("float32", lanes, T.shift_right(bits.value, integers(23)) - integers(126)))
    mantissa = T.bitwise_or(T.bitwise_and(bits.value, integers(0x7FFFFF)), integers(0x3F000000))
    r.set(reinterpret(vector_type("float32", lanes), mantissa))  # from 0.5 to 1
    is_low = r.value < _constant(math.sqrt(0.5), lanes)
    exponent.set(exponent.value - tirx.Select(is_low, _constant(1, lanes), _constant(0, lanes)))
    is_low = r.value < _constant(math.sqrt(0.5), lanes)
    r.set(r.value + tirx.Select(is_low, r.value, _constant(0, lanes)) - _constant(1, lanes))
    y, square = Vector("float32", lanes), r.value * r.value
    y.set(_constant(_LOGARITHM[0], lanes))
    for coefficient in _LOGARITHM[1:]:
        y.set(fma(lanes, y.value, r.value, _constant(coefficient, lanes)))
    y.set(y.value * r.value * square)
    y.set(fma(lanes, exponent.value, _constant(-2.12194440e-4, lanes), y.value))
    y.set(r.value + (y.value - _constant(0.5, lanes) * square))
    y.set(fma(lanes, exponent.value, _constant(0.693359375, lanes), y.value))
    of_zero = tirx.Select(
        tirx.EQ(x, _constant(0, lanes)), _constant(-math.inf, lanes), _constant(math.nan, lanes)
    )
    return tirx.Select(x > _constant(0, lanes), y.value, of_zero)


UNARY: Mapping[str, Unary] = {
    "neg": lambda isa, lanes, x: _constant(0, lanes) - x,
    "exp": exponential,
    "log": _logarithm,
    "sqrt": lambda isa, lanes, x: tirx.sqrt(x),
    "rsqrt": lambda isa, lanes, x: _constant(1, lanes) / tirx.sqrt(x),
    "floor": lambda isa, lanes, x: tirx.floor(x),
    "square": lambda isa, lanes, x: x * x,
    "tanh": hyperbolic_tangent,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
"""Functions of one element, by their operator's name."""

BINARY: Mapping[str, Callable[[tirx.Expr, tirx.Expr], tirx.Expr]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "maximum": tirx.max,
    "minimum": tirx.min,
}
"""Functions of two elements, by their operator's name."""

CHOICES: Mapping[str, Callable[..., tirx.Expr]] = {
    "greater": lambda lanes, a, b: tirx.Select(a > b, _constant(1, lanes), _constant(0, lanes)),
    "where": lambda lanes, c, a, b: tirx.Select(tirx.NE(c, _constant(0, lanes)), a, b),
}
"""Comparisons, and what is chosen by them: functions of how many lanes there are, and the elements."""
