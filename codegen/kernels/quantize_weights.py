"""Quantizing a weight at compile time.

The same search as :func:`ingot.ir.quantization.quantize`, which gives it its meaning, a hundred times as
fast. Vectors are of eight lanes whatever the host and sums have one order, so that every host writes the
same bytes; against the interpreter a sum may round differently, which can choose another scale only where
two are equally good.
"""

from __future__ import annotations

from tvm import tirx

from ...ir import QuantFormat
from ...ir.quantization import SEARCH_STEPS, Integers, Rounding
from .isa import fma, intrinsic
from .rows import load_float
from .script import Buffer, Expr, T, Vector, broadcast, cast, kernel, store, symbol

__all__ = ["can_quantize", "quantize_weight"]

_LANES = 8

_LARGEST_GROUP = 128
"""Elements that a kernel holds in variables."""


def _sum(value: Vector) -> tirx.Expr:
    """The lanes' sum, neighbours first."""
    terms = [value.lane(lane) for lane in range(_LANES)]
    while len(terms) > 1:
        terms = [left + right for left, right in zip(terms[::2], terms[1::2], strict=True)]
    return terms[0]


def can_quantize(quant_format: QuantFormat) -> bool:
    """Whether there is a kernel for a format: signed whole numbers in groups, their scales searched."""
    size, codes = quant_format.group_size, quant_format.codes
    return (
        isinstance(codes, Integers)
        and codes.signed
        and quant_format.rounding is Rounding.SEARCHED
        and quant_format.scale.type in ("float16", "float32")
        and quant_format.scale.of is None
        and size is not None
        and size % _LANES == 0
        and size <= _LARGEST_GROUP
    )


def quantize_weight(name: str, dtype: str, quant_format: QuantFormat) -> tirx.PrimFunc:
    """Arguments: the weight ``dtype`` ``[n, k]`` (uint16 holds bfloat16); results: codes int8 ``[n, k]`` and
    scales ``[n, k / group]``.
    """
    integers = quant_format.codes
    assert isinstance(integers, Integers)
    size, scale_type = quant_format.block_size, quant_format.scale.type
    smallest, largest = integers.smallest, integers.largest
    count, middle = size // _LANES, SEARCH_STEPS // 2

    def body(weight: Buffer, codes: Buffer, scales: Buffer) -> None:
        outputs, inputs = weight.shape

        def group_of_row(row: Expr, group: Expr) -> None:
            values = [Vector("float32", _LANES) for _ in range(count)]
            rounded = [Vector("float32", _LANES) for _ in range(count)]
            for index, value in enumerate(values):
                value.set(load_float(weight, (row, group * size + index * _LANES), _LANES, dtype))
            peak, scale, best_scale, best_error = (Vector("float32", 1) for _ in range(4))
            magnitude, extreme = Vector("float32", 1), Vector("float32", 1)
            peak.set(T.float32(0))
            extreme.set(T.float32(0))
            for value in values:
                for index in range(_LANES):
                    magnitude.set(intrinsic("float32", "llvm.fabs.f32", value.lane(index)))
                    peak.set(tirx.Select(magnitude.value > extreme.value, value.lane(index), peak.value))
                    extreme.set(tirx.max(extreme.value, magnitude.value))

            def round_values() -> None:
                inverse = Vector("float32", _LANES)
                inverse.fill(
                    tirx.Select(scale.value != T.float32(0), T.float32(1) / scale.value, T.float32(0))
                )
                for value, code in zip(values, rounded, strict=True):
                    nearest = intrinsic("float32x8", "llvm.rint.v8f32", value.value * inverse.value)
                    bounded = tirx.max(nearest, broadcast(T.float32(smallest), _LANES))
                    code.set(tirx.min(bounded, broadcast(T.float32(largest), _LANES)))

            def fit_and_judge() -> None:
                """Refit the scale to the codes, store it as its type would, and keep it if it is the best
                yet.
                """
                energy, product, error = (Vector("float32", _LANES) for _ in range(3))
                for total in (energy, product, error):
                    total.fill(T.float32(0))
                for value, code in zip(values, rounded, strict=True):
                    energy.set(fma(_LANES, code.value, code.value, energy.value))
                    product.set(fma(_LANES, value.value, code.value, product.value))
                whole = Vector("float32", 1)
                whole.set(_sum(energy))
                with T.If(whole.value > T.float32(0)), T.Then():
                    scale.set(_sum(product) / whole.value)
                scale.set(cast("float32", 1, cast(scale_type, 1, scale.value)))
                negative = Vector("float32", _LANES)
                negative.fill(T.float32(0) - scale.value)
                for value, code in zip(values, rounded, strict=True):
                    residual = Vector("float32", _LANES)
                    residual.set(fma(_LANES, code.value, negative.value, value.value))
                    error.set(fma(_LANES, residual.value, residual.value, error.value))
                whole.set(_sum(error))
                with T.If(whole.value < best_error.value), T.Then():
                    best_error.set(whole.value)
                    best_scale.set(scale.value)

            best_scale.set(T.float32(0))
            best_error.set(T.float32(3.0e38))
            with T.serial(SEARCH_STEPS) as step:
                divisor = cast("float32", 1, step - middle) * T.float32(0.25) + T.float32(smallest)
                scale.set(peak.value / divisor)
                round_values()
                fit_and_judge()
            scale.set(best_scale.value)
            round_values()
            store(scales, (row, group), cast(scale_type, 1, best_scale.value))
            for index, code in enumerate(rounded):
                whole_codes = cast("int8", _LANES, cast("int32", _LANES, code.value))
                store(codes, (row, group * size + index * _LANES), whole_codes, _LANES)

        with T.parallel(outputs) as row, T.serial(inputs // size) as group:
            group_of_row(row, group)

    n, k, groups = (symbol(s) for s in ("n", "k", "groups"))
    arguments = [
        ("weight", (n, k), dtype),
        ("codes", (n, k), "int8"),
        ("scales", (n, groups), scale_type),
    ]
    return kernel(name, arguments, body)
