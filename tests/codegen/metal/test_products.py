"""Products by shaders, for few rows and for many, next to the interpreter."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from ingot.ir import Array, GraphBuilder, ScalarType, TensorType
from ingot.ir.interpreter import evaluate
from ingot.ir.quantization import QuantizedArray, find_format, quantize

from ..cuda.emulated import needs_compiler
from .running import Step

pytestmark = needs_compiler

ROWS, OUTPUTS = 37, 83


def run_both(
    folder: Path, weight: Array, rows: np.ndarray, rounding: str | None, has_bias: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The interpreter's, those of many rows together, and of the first five alone."""
    builder = GraphBuilder()
    numbers = builder.input("numbers", ["tokens"], ScalarType.INT32)
    table = builder.parameter("table", TensorType(rows.shape, ScalarType.FLOAT32))
    element = weight.format if hasattr(weight, "format") else ScalarType(weight.dtype.name)
    matrix = builder.parameter("weight", TensorType(weight.shape, element))
    x = builder.emit("gather_rows", table, numbers)
    if rounding is not None:
        x = builder.emit("quantize", x, format=rounding)
    bias = TensorType((weight.shape[0],), ScalarType.FLOAT32)
    biases = [builder.parameter("bias", bias)] if has_bias else []
    graph = builder.build(builder.emit("linear", x, matrix, *biases))
    random = np.random.default_rng(5)
    parameters = {"table": rows, "weight": weight, "bias": random.normal(size=OUTPUTS).astype(np.float32)}
    order = random.permutation(len(rows)).astype(np.int32)
    (expected,) = evaluate(graph, {**parameters, "numbers": order})
    step = Step(graph, folder, parameters, {"tokens": len(rows)})
    many = step.run({"numbers": order}, {"tokens": len(rows)})
    assert step.kernels[-1] == "multiply_many"
    fewer = order[len(rows) - 17 :]  # no bit depends on the rows around
    np.testing.assert_array_equal(step.run({"numbers": fewer}, {"tokens": 17}), many[len(rows) - 17 :])
    few = step.run({"numbers": order[:5]}, {"tokens": 5})
    assert step.kernels[-1] == "multiply_few"
    return np.asarray(expected), many, few


@pytest.mark.parametrize(
    ("dtype", "inputs", "has_bias"),
    [
        ("bfloat16", 70, True),
        pytest.param("float32", 45, True, marks=pytest.mark.slow),
        pytest.param("float16", 52, False, marks=pytest.mark.slow),
        pytest.param("float16", 33, False, marks=pytest.mark.slow),
    ],
)
def test_weights_in_floats(dtype: str, inputs: int, has_bias: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    element = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    weight = random.normal(size=(OUTPUTS, inputs)).astype(element)
    rows = random.normal(size=(ROWS, inputs)).astype(np.float32)
    expected, many, few = run_both(tmp_path, weight, rows, None, has_bias)
    np.testing.assert_allclose(many, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(few, expected[:5], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "rows", "inputs"),
    [
        pytest.param("int8_g32", "dynamic_int8_g32", 96, marks=pytest.mark.slow),
        pytest.param("int3_g64", "dynamic_int8_row", 128, marks=pytest.mark.slow),
        pytest.param("int4_g64", None, 128, marks=pytest.mark.slow),
        pytest.param("int5_row_f32", "dynamic_int8_row", 64, marks=pytest.mark.slow),
    ],
)
def test_weights_in_codes(weights: str, rows: str | None, inputs: int, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    weight = quantize(random.normal(size=(OUTPUTS, inputs)).astype(np.float32), find_format(weights))
    values = random.normal(size=(ROWS, inputs)).astype(np.float32)
    expected, many, few = run_both(tmp_path, weight, values, rows, True)
    np.testing.assert_allclose(many, expected, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(few, expected[:5], rtol=1e-5, atol=2e-5)


def test_whole_numbers_are_the_cpus_bit_for_bit(tmp_path: Path) -> None:
    """Sums that leave the whole numbers that float32 has, so that they must be taken out in between."""
    random, inputs, outputs = np.random.default_rng(6), 2080, 20
    weight = QuantizedArray(
        find_format("int4_g32_i5"),
        codes=random.choice(np.array([-8, -8, -8, -7], np.int8), size=(outputs, inputs)),
        scales=random.choice(np.array([15, 15, 15, 13], np.int8), size=(outputs, inputs // 32)),
        super_scales=random.uniform(0.5, 1, size=(outputs, 1)).astype(np.float32),
    )
    weight.codes[outputs // 2 :] = random.integers(-8, 8, size=(outputs - outputs // 2, inputs))
    rows = random.uniform(0.97, 1, size=(18, inputs)).astype(np.float32)
    expected, many, few = run_both(tmp_path, weight, rows, "dynamic_int8_row", False)
    assert 2**24 * weight.super_scales.max() / 127 < np.abs(expected).max()
    np.testing.assert_array_equal(many, expected)
    np.testing.assert_array_equal(few, expected[:5])
