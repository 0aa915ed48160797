"""Quantizing weights on every machine: as good as the interpreter's search, and everywhere the same bytes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingot.codegen.kernels.layout import BLOCK, Layout, components, pack
from ingot.codegen.kernels.quantize_weights import quantize_weight
from ingot.ir import QuantFormat, QuantizedArray, TensorType, dequantize, find_format, quantize

from .machines import Kernel, Machine

ROWS, WIDTH = 37, 96
FORMATS = [find_format("int8_g32"), find_format("int4_g32")]


@pytest.fixture(scope="module", params=FORMATS, ids=lambda element: element.name)
def element(request: pytest.FixtureRequest) -> QuantFormat:
    return request.param


@pytest.fixture(scope="module")
def kernel(machine: Machine, element: QuantFormat) -> Kernel:
    return machine.build(quantize_weight("kernel", "float32", element))


def run(kernel: Kernel, weight: np.ndarray, element: QuantFormat) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales in blocks; rows past the weight's are left as they were, zero."""
    codes, scales = (
        np.zeros(part.shape, part.dtype)
        for part in components(TensorType(weight.shape, element), Layout.BLOCKED)
    )
    kernel(weight, codes, scales)
    return codes, scales


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


def check(found: tuple[np.ndarray, np.ndarray], weight: np.ndarray, element: QuantFormat) -> None:
    """Equal to the interpreter's, but that sums which round differently may choose between two as good."""
    expected = quantize(weight, element)
    rows, groups = len(weight), weight.shape[1] // 32
    scales = found[1].transpose(0, 2, 1).reshape(-1, groups)[:rows]
    same = scales == expected.scales
    assert same.mean() >= 0.9
    codes = quantize_with(weight, scales, element)
    np.testing.assert_array_equal(
        codes.codes.reshape(rows, groups, 32)[same], expected.codes.reshape(rows, groups, 32)[same]
    )
    packed, packed_scales = pack(codes, Layout.BLOCKED)
    written = np.zeros((len(packed) * BLOCK,), bool)
    written[:rows] = True
    lanes = written.reshape(len(packed), 1, BLOCK, 1)
    bytes_ = packed.reshape(len(packed), -1, BLOCK, 4)
    np.testing.assert_array_equal(found[0].reshape(bytes_.shape), np.where(lanes, bytes_, 0))
    np.testing.assert_array_equal(found[1], packed_scales)
    errors = [
        np.square((dequantize(array) - weight).astype(np.float64)).reshape(rows, groups, 32).sum(axis=-1)
        for array in (codes, expected)
    ]
    np.testing.assert_allclose(*errors, rtol=1e-4, atol=1e-30)


def quantize_with(weight: np.ndarray, scales: np.ndarray, element: QuantFormat) -> QuantizedArray:
    """The nearest codes for given scales."""
    wide = np.repeat(scales.astype(np.float32), 32, axis=1)
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
    rows=st.integers(1, 50), groups=st.integers(1, 5), seed=st.integers(0, 999), exponent=st.integers(-4, 3)
)
def test_matrices_of_every_shape(
    kernel: Kernel, element: QuantFormat, rows: int, groups: int, seed: int, exponent: int
) -> None:
    random = np.random.default_rng(seed)
    weight = (random.standard_t(4, (rows, groups * 32)) * 10.0**exponent).astype(np.float32)
    codes, scales = run(kernel, weight, element)
    assert not codes.reshape(len(codes), -1, BLOCK, 4)[-1, :, rows % BLOCK or BLOCK :].any()
    found = scales.transpose(0, 2, 1).reshape(-1, groups)[:rows]
    packed, _ = pack(quantize_with(weight, found, element), Layout.BLOCKED)
    shape = (-1, BLOCK, 4)
    np.testing.assert_array_equal(
        codes.reshape(len(codes), *shape)[:-1], packed.reshape(len(codes), *shape)[:-1]
    )
    error, best = (
        np.square((dequantize(array) - weight).astype(np.float64)).sum()
        for array in (quantize_with(weight, found, element), quantize(weight, element))
    )
    assert error <= best * (1 + 1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_weights_are_widened_first(machine: Machine, element: QuantFormat, dtype: str) -> None:
    narrow = weights("plain").astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    stored = narrow.view(np.uint16) if dtype == "bfloat16" else narrow
    kernel = machine.build(quantize_weight("kernel", stored.dtype.name, element))
    check(run(kernel, stored, element), narrow.astype(np.float32), element)


_BYTES: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_machine_writes_the_same_bytes(kernel: Kernel, element: QuantFormat, kind: str) -> None:
    found = run(kernel, weights(kind), element)
    first = _BYTES.setdefault((element.name, kind), found)
    for array, expected in zip(found, first, strict=True):
        np.testing.assert_array_equal(array, expected)
