"""Operators said in ONNX against their meaning, where few of the models that tests compile have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from ingot.codegen.onnx.build import RULES
from ingot.ir import STAGES, Array, GraphBuilder, ScalarType, TensorType, Value, evaluate, find_format
from ingot.ir.quantization import quantize

from .running import AnyArray, run_in_onnx

FLOAT, INT = ScalarType.FLOAT32, ScalarType.INT32
UNARY = (
    *("neg", "exp", "log", "cos", "sin", "rsqrt", "square", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh"),
    "floor",
)
BINARY = ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "greater")


def test_every_operator_of_a_step_has_a_rule() -> None:
    reached = STAGES["paged"].forward_operators | STAGES["ragged"].forward_operators
    assert reached == RULES.keys()


def _positive(*shape: int) -> AnyArray:
    return np.random.default_rng(1).uniform(0.1, 3, shape).astype(np.float32)


def _compare(
    builder: GraphBuilder, outputs: tuple[object, ...], arrays: dict[str, AnyArray], folder: Path
) -> None:
    graph = builder.build(*outputs)  # type: ignore[arg-type]
    expected = evaluate(graph, arrays)
    for found, wanted in zip(run_in_onnx(graph, arrays, {}, folder), expected, strict=True):
        np.testing.assert_allclose(found, np.asarray(wanted), rtol=2e-5, atol=2e-6)


def test_elementwise_operators(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x, y = (builder.input(name, ["tokens", 7], FLOAT) for name in "xy")
    outputs = [builder.emit(name, x) for name in UNARY]
    outputs += [builder.emit(name, x, y) for name in BINARY]
    outputs.append(builder.emit("where", builder.emit("greater", x, y), x, y))
    outputs.append(builder.emit("cast", builder.emit("cast", x, to="float16"), to="float32"))
    arrays = {"x": _positive(5, 7), "y": _positive(5, 7)[::-1].copy()}
    _compare(builder, tuple(outputs), arrays, tmp_path)


def test_operators_that_move_elements(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x = builder.input("x", ["tokens", 6, 4], FLOAT)
    order = builder.constant(np.array([2, 0, 3, 1], np.int32))
    outputs = (
        builder.emit("reshape", x, shape=("tokens", 24)),
        builder.emit("reshape", x, shape=(2, 12, "tokens")),
        builder.emit("transpose", x, axes=(2, 0, 1)),
        builder.emit("concat", x, x, axis=2),
        builder.emit("slice", x, axis=1, start=1, stop=3),
        builder.emit("repeat", x, axis=1, times=3),
        builder.emit("permute_columns", x, order),
        builder.emit("mean", x, axis=1),
        builder.emit("gather_rows", x, builder.emit("iota", length=3)),
    )
    _compare(builder, outputs, {"x": _positive(5, 6, 4)}, tmp_path)


def test_slices_that_are_all_of_a_value_become_one_split(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x = builder.input("x", ["tokens", 6], FLOAT)
    bounds = ((0, 1), (1, 4), (4, 6))
    outputs = tuple(builder.emit("slice", x, axis=1, start=start, stop=stop) for start, stop in bounds)
    _compare(builder, outputs, {"x": _positive(5, 6)}, tmp_path)


BATCH: dict[str, AnyArray] = {
    "sequence_starts": np.array([0, 3, 4, 9], np.int32),
    "context_lengths": np.array([7, 11, 5], np.int32),
    "page_table": np.array([[5, 2, 0], [1, 6, 4], [3, 7, 0]], np.int32),
}


@pytest.mark.parametrize("kind", ["plain", "capped", "window", "slopes", "sinks", "float16"])
def test_attention_over_pages(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(2)
    element = ScalarType.FLOAT16 if kind == "float16" else FLOAT
    builder = GraphBuilder()
    q = builder.input("q", ["tokens", 6, 10], FLOAT)
    caches = [builder.state(f"cache{n}", ["pages", 2, 4, dim], element) for n, dim in enumerate((10, 14))]
    described = [
        builder.input(
            name, ["sequence_bounds"] if "starts" in name else ["sequences", "most"][: array.ndim], INT
        )
        for name, array in BATCH.items()
    ]
    sinks = [builder.input("sinks", [6], FLOAT)] if kind == "sinks" else []
    attributes: dict[str, object] = {"scale": 0.3, "soft_cap": 0.0, "window": 0}
    attributes.update(
        {
            "capped": {"soft_cap": 1.5},
            "window": {"window": 3},
            "slopes": {"slopes": rng.uniform(0, 1, 6).astype(np.float32)},
        }.get(kind, {})
    )
    (result,) = builder.apply("paged_attention", [q, *caches, *described, *sinks], attributes)  # type: ignore[arg-type]
    arrays = {
        **BATCH,
        "q": rng.standard_normal((9, 6, 10), dtype=np.float32),
        "cache0": rng.standard_normal((8, 2, 4, 10)).astype(element.numpy),
        "cache1": rng.standard_normal((8, 2, 4, 14)).astype(element.numpy),
    }
    if sinks:
        arrays["sinks"] = rng.standard_normal(6, dtype=np.float32)
    _compare(builder, (result,), arrays, tmp_path)


def test_rows_are_appended_to_their_slots(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    builder = GraphBuilder()
    caches = [builder.state(f"cache{n}", ["pages", 3, 4, dim], FLOAT) for n, dim in enumerate((5, 6))]
    rows = [builder.input(name, ["tokens", 3, dim], FLOAT) for name, dim in (("k", 5), ("v", 6))]
    slots = builder.input("slots", ["tokens"], INT)
    written = builder.emit_all("append_kv", *caches, *rows, slots)
    arrays: dict[str, AnyArray] = {
        "slots": np.array([9, 30, 2], np.int32),
        **{
            f"cache{n}": rng.standard_normal((8, 3, 4, dim), dtype=np.float32) for n, dim in enumerate((5, 6))
        },
        **{name: rng.standard_normal((3, 3, dim), dtype=np.float32) for name, dim in (("k", 5), ("v", 6))},
    }
    _compare(builder, written, arrays, tmp_path)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("own_rows", [False, True])
def test_products_of_experts(tmp_path: Path, quantized: bool, own_rows: bool) -> None:
    rng = np.random.default_rng(5)
    builder = GraphBuilder()
    rows = ["tokens", 3, 64] if own_rows else ["tokens", 64]
    x = builder.input("x", rows, FLOAT)
    chosen = builder.input("chosen", ["tokens", 3], INT)
    element = find_format("int4_g32") if quantized else FLOAT
    weight = builder.parameter("weight", TensorType((5, 9, 64), element))
    bias = builder.parameter("bias", TensorType((5, 9), FLOAT))
    graph = builder.build(builder.emit("expert_linear", x, weight, chosen, bias))
    values = rng.standard_normal((5, 9, 64), dtype=np.float32)
    parameters: dict[str, Array] = {
        "weight": quantize(values, find_format("int4_g32")) if quantized else values,
        "bias": rng.standard_normal((5, 9), dtype=np.float32),
    }
    arrays: dict[str, AnyArray] = {
        "x": rng.standard_normal((4, *rows[1:]), dtype=np.float32),  # type: ignore[misc]
        "chosen": np.array([[0, 3, 4], [4, 0, 3], [3, 1, 0], [1, 3, 4]], np.int32),  # nobody takes the third
    }
    (expected,) = evaluate(graph, {**arrays, **parameters})
    (found,) = run_in_onnx(graph, arrays, parameters, tmp_path)
    np.testing.assert_allclose(found, np.asarray(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["int4_g32", "int8_g32", "int4_g32_z"])
def test_a_mixture_is_one_operator(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(6)
    hidden, width, experts = 96, 64, 5
    builder = GraphBuilder()
    x = builder.input("x", ["tokens", hidden], FLOAT)
    chosen, shares = (
        builder.input("chosen", ["tokens", 2], INT),
        builder.input("shares", ["tokens", 2], FLOAT),
    )
    parameters: dict[str, Array] = {}

    def product(rows: Value, part: str, outputs: int, inputs: int) -> Value:
        values = rng.standard_normal((experts, outputs, inputs), dtype=np.float32) / 8
        parameters[part] = quantize(values, find_format(name))
        parameters[f"{part}.bias"] = rng.standard_normal((experts, outputs), dtype=np.float32)
        weight = builder.parameter(part, TensorType((experts, outputs, inputs), find_format(name)))
        bias = builder.parameter(f"{part}.bias", TensorType((experts, outputs), FLOAT))
        return builder.emit("expert_linear", rows, weight, chosen, bias)

    gated = builder.emit("silu_mul", product(x, "up", 2 * width, hidden))
    graph = builder.build(builder.emit("weighted_sum", product(gated, "down", hidden, width), shares))
    arrays: dict[str, AnyArray] = {
        "x": rng.standard_normal((3, hidden), dtype=np.float32),
        "chosen": np.array([[4, 1], [0, 4], [3, 0]], np.int32),
        "shares": rng.uniform(0, 1, (3, 2)).astype(np.float32),
    }
    (expected,) = evaluate(graph, {**arrays, **parameters})
    (found,) = run_in_onnx(graph, arrays, parameters, tmp_path)
    assert [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node].count("QMoE") == 1
    # Experts of eight bits have rows rounded to eight bits, whatever is asked for.
    tolerance = 5e-2 if name == "int8_g32" else 1e-4
    np.testing.assert_allclose(found, np.asarray(expected), rtol=0, atol=tolerance)
