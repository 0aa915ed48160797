"""Quantizing a weight at compile time.

The same search as :func:`ingot.ir.quantization.quantize`, which gives it its meaning, a hundred times as
fast. Vectors are of eight lanes whatever the host and sums have one order, so that every host writes the
same bytes; against the interpreter a sum may round differently, which can choose another scale only where
two are equally good.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from ...ir import QuantFormat
from ...ir.quantization import SEARCH_STEPS, WHOLE_REFITS, Integers, Rounding
from .isa import fma, intrinsic
from .rows import load_float
from .script import Buffer, Expr, T, Vector, broadcast, cast, kernel, load, store, symbol

__all__ = ["can_quantize", "quantize_weight"]

_LANES = 8

_LARGEST_GROUP = 128
"""Elements that a kernel holds in variables."""


def can_quantize(quant_format: QuantFormat) -> bool:
    """Whether there is a kernel for a format: signed whole numbers in groups, their scales searched."""
    size, codes = quant_format.group_size, quant_format.codes
    return (
        isinstance(codes, Integers)
        and codes.signed
        and quant_format.rounding is Rounding.SEARCHED
        and quant_format.offset is None
        and (quant_format.scale.type in ("float16", "float32") or quant_format.has_whole_scales)
        and size is not None
        and size % _LANES == 0
        and size <= _LARGEST_GROUP
    )


def quantize_weight(name: str, dtype: str, quant_format: QuantFormat) -> tirx.PrimFunc:
    """Arguments: the weight ``dtype`` ``[n, k]`` (uint16 holds bfloat16); results: the format's components.

    Where scales are whole multiples of a row's, a last result is float32 ``[n, k / group]``: the scales that
    there would be without these.
    """
    assert quant_format.group_size is not None
    size, scale_type = quant_format.group_size, quant_format.scale.type

    def body(weight: Buffer, codes: Buffer, scales: Buffer, *rest: Buffer) -> None:
        outputs, inputs = weight.shape
        num_groups = inputs // size
        with T.parallel(outputs) as row:

            def group_at(number: Expr) -> _Group:
                return _Group(quant_format, weight, dtype, row, number)

            if quant_format.has_whole_scales:
                row_scales, found = rest
                with T.serial(num_groups) as number:
                    store(found, (row, number), group_at(number).search("float32").value)
                _fit_whole_scales(quant_format, row, num_groups, group_at, (codes, scales, row_scales), found)
                return
            with T.serial(num_groups) as number:
                group = group_at(number)
                scale = group.search(scale_type)
                store(scales, (row, number), cast(scale_type, 1, scale.value))
                group.round(scale.value)
                group.store(codes)

    n, k, groups = (symbol(s) for s in ("n", "k", "groups"))
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("weight", (n, k), dtype),
        ("codes", (n, k), "int8"),
        ("scales", (n, groups), quant_format.scale.dtype.name),
    ]
    if quant_format.has_whole_scales:
        arguments += [("row_scales", (n, 1), "float32"), ("found", (n, groups), "float32")]
    return kernel(name, arguments, body)


class _Group:
    """A group's values in variables, and the codes they were rounded to last."""

    def __init__(
        self, quant_format: QuantFormat, weight: Buffer, dtype: str, row: Expr, number: Expr
    ) -> None:
        codes, size = quant_format.codes, quant_format.group_size
        assert isinstance(codes, Integers)
        assert size is not None
        self._codes, self._row, self._first = codes, row, number * size
        self._values = [Vector("float32", _LANES) for _ in range(size // _LANES)]
        self._rounded = [Vector("float32", _LANES) for _ in self._values]
        for index, value in enumerate(self._values):
            value.set(load_float(weight, (row, self._first + index * _LANES), _LANES, dtype))

    def round(self, scale: tirx.Expr) -> None:
        """The nearest codes for a scale; zeros where it is zero."""
        inverse = Vector("float32", _LANES)
        inverse.fill(tirx.Select(scale != T.float32(0), T.float32(1) / scale, T.float32(0)))
        for value, code in zip(self._values, self._rounded, strict=True):
            nearest = intrinsic("float32x8", "llvm.rint.v8f32", value.value * inverse.value)
            bounded = tirx.max(nearest, broadcast(T.float32(self._codes.smallest), _LANES))
            code.set(tirx.min(bounded, broadcast(T.float32(self._codes.largest), _LANES)))

    def energy(self) -> Vector:
        """The sum of the squares of the codes."""
        return self._sum(lambda value, code, total: fma(_LANES, code, code, total))

    def product(self) -> Vector:
        """The sum of values times codes."""
        return self._sum(lambda value, code, total: fma(_LANES, value, code, total))

    def error(self, scale: tirx.Expr) -> Vector:
        """The squared error of the codes."""
        negative = Vector("float32", _LANES)
        negative.fill(T.float32(0) - scale)

        def add(value: tirx.Expr, code: tirx.Expr, total: tirx.Expr) -> tirx.Expr:
            residual = Vector("float32", _LANES)
            residual.set(fma(_LANES, code, negative.value, value))
            return fma(_LANES, residual.value, residual.value, total)

        return self._sum(add)

    def _sum(self, add: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Expr]) -> Vector:
        """Sums of lanes, and then of these, neighbours first."""
        total, whole = Vector("float32", _LANES), Vector("float32", 1)
        total.fill(T.float32(0))
        for value, code in zip(self._values, self._rounded, strict=True):
            total.set(add(value.value, code.value, total.value))
        terms = [total.lane(lane) for lane in range(_LANES)]
        while len(terms) > 1:
            terms = [left + right for left, right in zip(terms[::2], terms[1::2], strict=True)]
        whole.set(terms[0])
        return whole

    def search(self, scale_type: str) -> Vector:
        """The best of some scales, each fitted to the codes that the largest magnitude over a divisor gives,
        and then as its type has it.
        """
        peak = self._peak()
        best_scale, best_error, scale = (_number(value) for value in (0.0, 3.0e38, 0.0))
        with T.serial(SEARCH_STEPS) as step:
            away = cast("float32", 1, step - SEARCH_STEPS // 2) * T.float32(0.25)
            scale.set(peak.value / (away + T.float32(self._codes.smallest)))
            self.round(scale.value)
            energy, product = self.energy(), self.product()
            with T.If(energy.value > T.float32(0)), T.Then():
                scale.set(product.value / energy.value)
            scale.set(cast("float32", 1, cast(scale_type, 1, scale.value)))
            error = self.error(scale.value)
            with T.If(error.value < best_error.value), T.Then():
                best_error.set(error.value)
                best_scale.set(scale.value)
        return best_scale

    def _peak(self) -> Vector:
        """The value farthest from zero, the first of several."""
        peak, magnitude, extreme = (_number(0.0) for _ in range(3))
        for value in self._values:
            for lane in range(_LANES):
                magnitude.set(intrinsic("float32", "llvm.fabs.f32", value.lane(lane)))
                peak.set(tirx.Select(magnitude.value > extreme.value, value.lane(lane), peak.value))
                extreme.set(tirx.max(extreme.value, magnitude.value))
        return peak

    def store(self, codes: Buffer) -> None:
        """Write the codes."""
        for index, code in enumerate(self._rounded):
            whole = cast("int8", _LANES, cast("int32", _LANES, code.value))
            store(codes, (self._row, self._first + index * _LANES), whole, _LANES)


def _number(value: float) -> Vector:
    vector = Vector("float32", 1)
    vector.set(T.float32(value))
    return vector


def _fit_whole_scales(
    quant_format: QuantFormat,
    row: Expr,
    num_groups: Expr,
    group_at: Callable[[Expr], _Group],
    out: tuple[Buffer, Buffer, Buffer],
    found: Buffer,
) -> None:
    """Emit :func:`ingot.ir.quantization.whole_scales.fit_whole_scales` for one row."""
    codes, scales, row_scales = out
    bounds = quant_format.scale.integer_range
    assert bounds is not None
    largest = T.float32(bounds[1])
    scale, best, best_error, peak = (_number(value) for value in (0.0, 0.0, 3.0e38, 0.0))

    def choose(group: _Group, number: Expr) -> tuple[Vector, Vector]:
        """The whole scale of a group, to which it is rounded, and the error."""
        ratio, below, sign, chosen, least = (_number(0.0) for _ in range(5))
        inverse = tirx.Select(scale.value != T.float32(0), T.float32(1) / scale.value, T.float32(0))
        ratio.set(load(found, (row, number)) * inverse)
        below.set(intrinsic("float32", "llvm.floor.f32", intrinsic("float32", "llvm.fabs.f32", ratio.value)))
        sign.set(tirx.Select(ratio.value < T.float32(0), T.float32(-1), T.float32(1)))
        for further in range(2):
            size = tirx.min(tirx.max(below.value + T.float32(further), T.float32(1)), largest)
            tried = _number(0.0)
            tried.set(size * sign.value)
            group.round(tried.value * scale.value)
            error = group.error(tried.value * scale.value)
            if not further:
                chosen.set(tried.value)
                least.set(error.value)
                continue
            with T.If(error.value < least.value):
                with T.Then():
                    chosen.set(tried.value)
                    least.set(error.value)
                with T.Else():
                    group.round(chosen.value * scale.value)
        return chosen, least

    with T.serial(num_groups) as number:
        peak.set(tirx.max(peak.value, intrinsic("float32", "llvm.fabs.f32", load(found, (row, number)))))
    scale.set(peak.value / largest)
    best.set(scale.value)
    with T.serial(WHOLE_REFITS + 1):
        total, energy, product = (_number(0.0) for _ in range(3))
        with T.serial(num_groups) as number:
            group = group_at(number)
            chosen, error = choose(group, number)
            total.set(total.value + error.value)
            energy.set(fma(1, group.energy().value, chosen.value * chosen.value, energy.value))
            product.set(fma(1, group.product().value, chosen.value, product.value))
        with T.If(total.value < best_error.value), T.Then():
            best_error.set(total.value)
            best.set(scale.value)
        with T.If(energy.value > T.float32(0)), T.Then():
            scale.set(product.value / energy.value)
    scale.set(best.value)
    store(row_scales, (row, 0), best.value)
    with T.serial(num_groups) as number:
        group = group_at(number)
        chosen, _ = choose(group, number)
        store(scales, (row, number), cast("int8", 1, cast("int32", 1, chosen.value)))
        group.store(codes)
