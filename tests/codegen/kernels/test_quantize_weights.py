"""Quantizing weights on every machine: as good as the interpreter's search, and everywhere the same bytes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingot.codegen.kernels.quantize_weights import quantize_weight
from ingot.ir import QuantFormat, QuantizedArray, dequantize, find_format, quantize

from .machines import Kernel, Machine, filled

ROWS, WIDTH = 37, 192
FORMATS = [find_format(name) for name in ("int8_g32", "int4_g32", "int3_g64", "int4_g32_i5")]


@pytest.fixture(scope="module", params=FORMATS, ids=lambda element: element.name)
def element(request: pytest.FixtureRequest) -> QuantFormat:
    return request.param


@pytest.fixture(scope="module")
def kernel(machine: Machine, element: QuantFormat) -> Kernel:
    return machine.build(quantize_weight("kernel", "float32", element))


def run(kernel: Kernel, weight: np.ndarray, element: QuantFormat) -> QuantizedArray:
    sizes = {
        c.name: (len(weight), 1 if c.size is None else weight.shape[1] // c.size) for c in element.components
    }
    arrays = {c.name: filled(sizes[c.name], c.dtype.name) for c in element.components}
    extra = [filled(sizes["scales"], "float32")] if element.has_whole_scales else []
    kernel(weight, *arrays.values(), *extra)
    return QuantizedArray(element, **arrays)


def weights(kind: str, shape: tuple[int, int] = (ROWS, WIDTH)) -> np.ndarray:
    random = np.random.default_rng(7)
    values = random.standard_normal(shape)
    if kind == "outliers":
        values[random.random(shape) < 0.02] *= 40
    elif kind == "tiny":
        values *= 1e-7  # scales are denormal in float16, or nothing
    elif kind == "one value":
        values = np.repeat(values[:, ::32], 32, axis=1)
    elif kind == "zeros":
        values[::3] = 0
        values[1::3, 5:] = 0
    elif kind == "whole numbers":
        values = np.rint(values * 5)
    return values.astype(np.float32)


def check(found: QuantizedArray, weight: np.ndarray, element: QuantFormat) -> None:
    """Equal to the interpreter's, but that sums which round differently may choose between two as good."""
    expected = quantize(weight, element)
    if element.has_whole_scales:
        check_rows(found, expected, weight)
        return
    groups = (*expected.scales.shape, element.block_size)
    same = found.scales == expected.scales
    assert same.mean() >= 0.9
    np.testing.assert_array_equal(found.codes.reshape(groups)[same], expected.codes.reshape(groups)[same])
    np.testing.assert_array_equal(found.codes, quantize_with(weight, found.scales, element).codes)
    errors = [
        np.square((dequantize(array) - weight).astype(np.float64)).reshape(groups).sum(axis=-1)
        for array in (found, expected)
    ]
    np.testing.assert_allclose(*errors, rtol=1e-4, atol=1e-30)


def check_rows(found: QuantizedArray, expected: QuantizedArray, weight: np.ndarray) -> None:
    """The same for rows whose groups depend on each other: as good as the interpreter's."""
    np.testing.assert_array_equal(found.codes, nearest(weight, found).codes)
    assert np.abs(found.scales).max() <= 15
    assert np.abs(found.scales).min() >= 1
    wrong, least = (
        np.square((dequantize(array) - weight).astype(np.float64)).sum(axis=-1) for array in (found, expected)
    )
    np.testing.assert_allclose(wrong, least, rtol=0.02, atol=1e-30)
    assert wrong.sum() <= least.sum() * 1.001 + 1e-30


def nearest(weight: np.ndarray, found: QuantizedArray) -> QuantizedArray:
    """The nearest codes for whole scales."""
    scales = np.repeat(found.scales.astype(np.float32) * found.super_scales, found.format.block_size, axis=1)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    codes = found.format.codes
    given = np.clip(np.rint(weight * inverse), codes.smallest, codes.largest).astype(np.int8)
    return QuantizedArray(found.format, given, found.scales, super_scales=found.super_scales)


def quantize_with(weight: np.ndarray, scales: np.ndarray, element: QuantFormat) -> QuantizedArray:
    """The nearest codes for given scales."""
    wide = np.repeat(scales.astype(np.float32), element.block_size, axis=1)
    inverse = np.divide(np.float32(1), wide, out=np.zeros_like(wide), where=wide != 0)
    codes = np.clip(np.rint(weight * inverse), element.codes.smallest, element.codes.largest)
    return QuantizedArray(element, codes.astype(np.int8), scales)


KINDS = ["plain", "outliers", "tiny", "one value", "zeros", "whole numbers"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_search_finds_what_the_interpreter_finds(kernel: Kernel, element: QuantFormat, kind: str) -> None:
    weight = weights(kind)
    check(run(kernel, weight, element), weight, element)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 50), groups=st.integers(1, 2), seed=st.integers(0, 999), exponent=st.integers(-4, 3)
)
def test_matrices_of_every_shape(
    kernel: Kernel, element: QuantFormat, rows: int, groups: int, seed: int, exponent: int
) -> None:
    random = np.random.default_rng(seed)
    weight = (random.standard_t(4, (rows, groups * element.block_size)) * 10.0**exponent).astype(np.float32)
    found = run(kernel, weight, element)
    given = (
        nearest(weight, found) if element.has_whole_scales else quantize_with(weight, found.scales, element)
    )
    np.testing.assert_array_equal(found.codes, given.codes)
    error, best = (
        np.square((dequantize(array) - weight).astype(np.float64)).sum()
        for array in (found, quantize(weight, element))
    )
    assert error <= best * (1 + (1e-2 if element.has_whole_scales else 1e-4))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_weights_are_widened_first(machine: Machine, element: QuantFormat, dtype: str) -> None:
    narrow = weights("plain").astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    stored = narrow.view(np.uint16) if dtype == "bfloat16" else narrow
    kernel = machine.build(quantize_weight("kernel", stored.dtype.name, element))
    check(run(kernel, stored, element), narrow.astype(np.float32), element)


_BYTES: dict[tuple[str, str], QuantizedArray] = {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_machine_writes_the_same_bytes(kernel: Kernel, element: QuantFormat, kind: str) -> None:
    found = run(kernel, weights(kind), element)
    first = _BYTES.setdefault((element.name, kind), found)
    for array, expected in zip(found.components.values(), first.components.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
