"""Weights of every kind of format, multiplied and looked up by ONNX Runtime as the interpreter does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ingot.ir import Array, Graph, GraphBuilder, ScalarType, TensorType, evaluate, find_format
from ingot.ir.quantization import quantize

from .running import run_in_onnx

FORMATS = (
    *("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs"),
    *(
        "mxfp4",
        "nvfp4",
        "int2_g32",
        "int3_g32",
        "int4_g32",
        "int4_g48",
        "int4_g64_z",
        "int4_row",
        "int8_g128",
    ),
    *("int8_row", "int6_g32_z", "int4_g32_fz", "int2_g32_fz", "fp8_e4m3_g128", "fp8_e5m2_row", "nf4_g64"),
    *("fp4_g32_bf16", "int3_g16_z_bf16"),
)
OUTPUTS, TOKENS = 23, 5


def _graph(name: str, inputs: int) -> Graph:
    """A product with a bias, and rows of the same weight as a table."""
    builder = GraphBuilder()
    x = builder.input("x", ["tokens", inputs], ScalarType.FLOAT32)
    numbers = builder.input("numbers", ["tokens"], ScalarType.INT32)
    type_ = TensorType((OUTPUTS, inputs), find_format(name))
    weight = builder.parameter("weight", type_)
    bias = builder.parameter("bias", TensorType((OUTPUTS,), ScalarType.FLOAT32))
    product = builder.emit("linear", x, weight, bias)
    return builder.build(product, builder.emit("embedding", weight, numbers))


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_multiplied_and_looked_up(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(3)
    inputs = 384 if name == "int4_g48" else 512
    graph = _graph(name, inputs)
    values = rng.standard_normal((OUTPUTS, inputs), dtype=np.float32)
    parameters: dict[str, Array] = {
        "weight": quantize(values, find_format(name)),
        "bias": rng.standard_normal(OUTPUTS, dtype=np.float32),
    }
    arrays = {
        "x": rng.standard_normal((TOKENS, inputs), dtype=np.float32),
        "numbers": rng.integers(0, OUTPUTS, TOKENS, dtype=np.int32),
    }
    expected = evaluate(graph, {**arrays, **parameters})
    found = run_in_onnx(graph, arrays, parameters, tmp_path)
    np.testing.assert_allclose(found[1], np.asarray(expected[1]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[0], np.asarray(expected[0]), rtol=1e-5, atol=5e-4)


def test_rows_are_rounded_to_bfloat16(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    builder = GraphBuilder()
    x = builder.input("x", ["tokens", 64], ScalarType.FLOAT32)
    weight = builder.parameter("weight", TensorType((OUTPUTS, 64), ScalarType.BFLOAT16))
    graph = builder.build(builder.emit("linear", builder.emit("cast", x, to="bfloat16"), weight))
    parameters: dict[str, Array] = {
        "weight": rng.standard_normal((OUTPUTS, 64)).astype(ScalarType.BFLOAT16.numpy)
    }
    arrays = {"x": rng.standard_normal((TOKENS, 64), dtype=np.float32)}
    (expected,) = evaluate(graph, {**arrays, **parameters})
    (found,) = run_in_onnx(graph, arrays, parameters, tmp_path)
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-5, atol=1e-5)
    exact = arrays["x"] @ np.asarray(parameters["weight"], np.float32).T
    assert np.abs(found - exact).max() > 1e-3
