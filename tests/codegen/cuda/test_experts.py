"""Who takes a token, and products of those chosen, on the emulation, against the interpreter."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from ingot.codegen.kernels.layout import Layout, pack
from ingot.ir import Graph, GraphBuilder, ScalarType, TensorType, Value, evaluate

from .emulated import needs_compiler
from .steps import EmulatedStep

pytestmark = needs_compiler

Arrays = dict[str, npt.NDArray[np.generic]]

MANY, MORE = 53, 320
"""Tokens of which experts have more rows than a block takes; and so many that blocks take more."""

PLAIN: dict[str, Any] = {
    "scores": "softmax",
    "groups": 1,
    "kept_groups": 1,
    "group_terms": 1,
    "normalize": False,
    "scale": 1.0,
    "jitter": 0.0,
}
ROUTES: tuple[tuple[int, int, bool, dict[str, Any]], ...] = (
    (7, 3, False, {"normalize": True}),
    (40, 8, True, {"scale": 1.5}),
    (5, 2, False, {"scores": "softmax_of_chosen"}),
    (36, 6, True, {"scores": "sigmoid", "groups": 6, "kept_groups": 3, "group_terms": 2, "normalize": True}),
    (70, 4, False, {"groups": 35, "kept_groups": 9}),
    (16, 2, False, {"scores": "sparsemixer", "jitter": 0.2}),
    (33, 32, False, {"scores": "sigmoid"}),
)
"""Experts, how many of them are chosen, whether by a bias, and what differs from the plain way."""


def routes() -> tuple[Graph, Arrays]:
    """All of them beside each other: weights, and numbers that tell who was chosen."""
    builder, random, arrays, results = GraphBuilder(), np.random.default_rng(1), {}, []
    for number, (experts, count, has_bias, options) in enumerate(ROUTES):
        rows = random.standard_normal((9, experts)).astype(np.float32)
        rows[1] = rows[1, 0]  # of equals the first is better
        arrays |= {
            f"logits{number}": rows,
            f"names{number}": np.tile(np.arange(experts, dtype=np.float32), (9, 1)),
        }
        logits, names = (
            builder.input(f"{name}{number}", ["tokens", experts], ScalarType.FLOAT32)
            for name in ("logits", "names")
        )
        biases: list[Value] = []
        if has_bias:
            arrays[f"bias{number}"] = random.standard_normal(experts).astype(np.float32)
            biases = [builder.parameter(f"bias{number}", TensorType((experts,), ScalarType.FLOAT32))]
        chosen, weights = builder.emit_all(
            "route", logits, *biases, **PLAIN | {"experts_per_token": count} | options
        )
        results += [weights, builder.emit("take_chosen", names, chosen)]
    return builder.build(builder.emit("concat", *results, axis=1)), arrays


def test_experts_are_those_that_the_interpreter_chooses() -> None:
    graph, arrays = routes()
    (expected,) = evaluate(graph, arrays)
    found = EmulatedStep(graph).run(arrays, {"tokens": 9})
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


@cache
def mixture(dtype: ScalarType) -> tuple[Graph, EmulatedStep, Arrays, Arrays]:
    """Two products of experts and a sum: what the interpreter is given, and parameters as they lie."""
    tokens = MORE
    experts, count, width, inner = 7, 3, 36, 48
    builder, random = GraphBuilder(), np.random.default_rng(2)
    kind = ml_dtypes.bfloat16 if dtype is ScalarType.BFLOAT16 else np.dtype(dtype.value)
    arrays: Arrays = {
        "x": random.standard_normal((tokens, width + 4)).astype(np.float32),
        "logits": (random.standard_normal((tokens, experts)) - 3 * (np.arange(experts) == 4)).astype(
            np.float32
        ),
        "up": random.standard_normal((experts, 2 * inner, width)).astype(kind),
        "down": random.standard_normal((experts, width, inner)).astype(kind),
        "bias": random.standard_normal((experts, 2 * inner)).astype(np.float32),
    }
    wide = builder.input("x", ["tokens", width + 4], ScalarType.FLOAT32)
    logits = builder.input("logits", ["tokens", experts], ScalarType.FLOAT32)
    up = builder.parameter("up", TensorType((experts, 2 * inner, width), dtype))
    bias = builder.parameter("bias", TensorType((experts, 2 * inner), ScalarType.FLOAT32))
    down = builder.parameter("down", TensorType((experts, width, inner), dtype))
    x = builder.emit("slice", wide, axis=1, start=4, stop=4 + width)
    chosen, weights = builder.emit_all("route", logits, experts_per_token=count, **PLAIN)
    opened = builder.emit("silu_mul", builder.emit("expert_linear", x, up, chosen, bias))
    result = builder.emit("weighted_sum", builder.emit("expert_linear", opened, down, chosen), weights)
    packed = dict(arrays)
    for name, layout in (("up", Layout.BLOCKED), ("down", Layout.BLOCKED), ("bias", Layout.PADDED)):
        parts = (
            [pack(array, layout)[0] for array in arrays[name]]
            if name != "bias"
            else pack(arrays[name], layout)
        )
        packed[name] = np.ascontiguousarray(np.concatenate(parts))
    graph = builder.build(result)
    return graph, EmulatedStep(graph), arrays, packed


def rows_of(arrays: Arrays, tokens: int) -> Arrays:
    return {key: array[:tokens] if key in ("x", "logits") else array for key, array in arrays.items()}


@pytest.mark.parametrize("dtype", [ScalarType.FLOAT32, ScalarType.BFLOAT16], ids=lambda dtype: dtype.value)
def test_products_of_experts_are_those_of_the_interpreter(dtype: ScalarType) -> None:
    compare(dtype, 1, 6, MANY)


@pytest.mark.slow
def test_so_are_those_of_more_tokens() -> None:
    compare(ScalarType.BFLOAT16, MORE)


def compare(dtype: ScalarType, *counts: int) -> None:
    graph, step, arrays, packed = mixture(dtype)
    for tokens in counts:
        (expected,) = evaluate(graph, rows_of(arrays, tokens))
        found = step.run(rows_of(packed, tokens), {"tokens": tokens})
        away = np.abs(expected).max() * (1e-5 if dtype is ScalarType.FLOAT32 else 1e-4)
        np.testing.assert_allclose(found, expected, rtol=0, atol=away)


def test_a_rows_bits_do_not_depend_on_who_shares_its_experts() -> None:
    _, step, _, packed = mixture(ScalarType.FLOAT32)
    whole = step.run(rows_of(packed, 16), {"tokens": 16})
    assert np.array_equal(step.run(rows_of(packed, 5), {"tokens": 5}), whole[:5])
