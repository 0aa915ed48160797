"""Mixtures of experts on every machine: who is chosen, and that a row has the bits it has alone."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from ingot.codegen.kernels.code_products import rows_for
from ingot.codegen.kernels.coded import CodedMatrix
from ingot.codegen.kernels.expert_linear_float import expert_linear_float
from ingot.codegen.kernels.experts import (
    Routing,
    expert_linear_quantized,
    group_by_expert,
    quantize_expert_rows,
    route,
    take_chosen,
    weighted_sum,
)
from ingot.codegen.kernels.float_product import FloatMatrix
from ingot.codegen.kernels.layout import Layout, pack
from ingot.codegen.kernels.linear import linear_quantized
from ingot.codegen.kernels.linear_float import linear_float
from ingot.codegen.kernels.quantize import quantize_rows
from ingot.codegen.kernels.rows import Rows
from ingot.ir import find_format, find_operator, quantize

from .machines import Kernel, Machine, filled
from .row_arrays import row_format, with_panels

Floats = npt.NDArray[np.float32]
EXPERTS, CHOSEN = 7, 3
COUNTS = (1, 2, 5, 31)
"""Tokens in a step."""

ROUTERS: dict[str, dict[str, Any]] = {
    "softmax": {"normalize": True},
    "softmax as it is, scaled": {"scale": 2.5},
    "softmax, groups": {"groups": 4, "kept_groups": 2},
    "softmax of chosen": {"scores": "softmax_of_chosen"},
    "sigmoid": {"scores": "sigmoid"},
    "sigmoid, groups": {
        "scores": "sigmoid",
        "groups": 4,
        "kept_groups": 3,
        "group_terms": 2,
        "normalize": True,
        "scale": 1.7,
    },
    "sparsemixer": {"scores": "sparsemixer", "jitter": 0.2, "experts_per_token": 2},
}


TAKE_BIAS = ("softmax", "sigmoid")
BIASED = [kind for kind, options in ROUTERS.items() if options.get("scores", "softmax") in TAKE_BIAS]


@pytest.mark.parametrize(
    ("kind", "has_bias"), [*((kind, False) for kind in ROUTERS), *((kind, True) for kind in BIASED)]
)
def test_route(machine: Machine, kind: str, has_bias: bool) -> None:
    routing = Routing(
        **{
            "num_experts": 12,
            "experts_per_token": 3,
            "scores": "softmax",
            "groups": 1,
            "kept_groups": 1,
            "group_terms": 1,
            "normalize": False,
            "scale": 1.0,
            "jitter": 0.0,
            **ROUTERS[kind],
        }
    )
    view = Rows(12, 19, 4)
    kernel = machine.build(route(machine.isa, "kernel", view, routing, has_bias))
    random = np.random.default_rng(3)
    x = np.full((60, view.stride), np.nan, np.float32)
    logits = x[:, 4:16]
    logits[...] = random.standard_normal(logits.shape) * 2
    logits[7] = 0.5  # the first of equals is better
    bias = [random.standard_normal(12).astype(np.float32) * 0.1] if has_bias else []
    attributes = {name: value for name, value in vars(routing).items() if name != "num_experts"}
    experts, weights = find_operator("route").evaluate([logits, *bias], attributes, {})
    chosen, found = (
        filled((60, routing.experts_per_token), "int32"),
        filled((60, routing.experts_per_token), "float32"),
    )
    kernel(x, *bias, chosen, found)
    np.testing.assert_array_equal(chosen, experts)
    np.testing.assert_allclose(found, weights, rtol=2e-6)


def test_experts_of_what_is_no_number_are_some(machine: Machine) -> None:
    routing = Routing(EXPERTS, CHOSEN, "softmax", 1, 1, 1, True, 1.0, 0.0)
    kernel = machine.build(route(machine.isa, "kernel", Rows.dense(EXPERTS), routing, False))
    logits = np.full((2, EXPERTS), np.nan, np.float32)
    logits[1] = np.inf
    chosen, weights = filled((2, CHOSEN), "int32"), filled((2, CHOSEN), "float32")
    kernel(logits, chosen, weights)
    assert ((chosen >= 0) & (chosen < EXPERTS)).all()


def some_experts(num_tokens: int, seed: int = 0) -> npt.NDArray[np.int32]:
    """Different ones for each token, and some that nobody has."""
    random = np.random.default_rng(seed)
    return np.array([random.permutation(EXPERTS - 1)[:CHOSEN] for _ in range(num_tokens)], np.int32)


@pytest.fixture(scope="module")
def grouping(machine: Machine) -> Kernel:
    return machine.build(group_by_expert(machine.isa, "kernel", EXPERTS, CHOSEN))


def grouped(kernel: Kernel, chosen: npt.NDArray[np.int32]) -> tuple[np.ndarray, ...]:
    results = filled((chosen.size,), "int32"), *(filled((EXPERTS + 1,), "int32") for _ in range(2))
    kernel(chosen, *results)
    return results


@pytest.mark.parametrize("num_tokens", COUNTS)
def test_group_by_expert(grouping: Kernel, num_tokens: int) -> None:
    chosen = some_experts(num_tokens)
    order, starts, active = grouped(grouping, chosen)
    np.testing.assert_array_equal(order, np.argsort(chosen.reshape(-1), kind="stable"))
    counts = np.bincount(chosen.reshape(-1), minlength=EXPERTS)
    np.testing.assert_array_equal(starts, [0, *np.cumsum(counts)])
    np.testing.assert_array_equal(
        active[: active[0] + 1], [np.count_nonzero(counts), *np.flatnonzero(counts)]
    )


@pytest.mark.parametrize(
    ("outputs", "inputs", "dtype", "has_bias"),
    [
        (16, 32, "float32", False),
        (50, 37, "float32", True),
        (35, 43, "uint16", True),
        (31, 64, "float16", False),
    ],
)
@pytest.mark.parametrize("shared", [True, False], ids=["a row a token", "a row an expert"])
def test_floats(
    machine: Machine, grouping: Kernel, outputs: int, inputs: int, dtype: str, has_bias: bool, shared: bool
) -> None:
    """Each row is what the kernel for one matrix makes of it, alone."""
    random = np.random.default_rng(outputs)
    stored = {"uint16": ml_dtypes.bfloat16}.get(dtype, dtype)
    weight = random.standard_normal((EXPERTS, outputs, inputs)).astype(stored)
    bias = random.standard_normal((EXPERTS, outputs)).astype(np.float32)
    view = Rows(inputs, inputs + 9, 4)
    kernel = machine.build(
        expert_linear_float(
            machine.isa,
            "kernel",
            EXPERTS,
            CHOSEN,
            FloatMatrix(outputs, inputs, dtype),
            view,
            shared,
            has_bias,
        )
    )
    alone = machine.build(
        linear_float(machine.isa, "kernel", FloatMatrix(outputs, inputs, dtype), view, has_bias)
    )
    arrays = [*pack(weight, Layout.BLOCKED), *(pack(bias, Layout.PADDED) if has_bias else ())]
    for num_tokens in COUNTS:
        chosen = some_experts(num_tokens)
        x = np.full((num_tokens if shared else chosen.size, view.stride), np.nan, np.float32)
        x[:, 4 : 4 + inputs] = random.standard_normal((len(x), inputs))
        out, row = filled((chosen.size, outputs), "float32"), filled((1, outputs), "float32")
        kernel(x, *grouped(grouping, chosen), *arrays, out)
        for pair, expert in enumerate(chosen.reshape(-1)):
            own = [*pack(weight[expert], Layout.BLOCKED)]
            own += pack(bias[expert], Layout.PADDED) if has_bias else ()
            source = pair // CHOSEN if shared else pair
            alone(x[source : source + 1], *own, row)
            np.testing.assert_array_equal(out[pair], row[0])
        rows = x[:, 4 : 4 + inputs]
        operands = [rows if shared else rows.reshape(*chosen.shape, inputs), weight, chosen]
        (meant,) = find_operator("expert_linear").evaluate([*operands, *([bias] if has_bias else [])], {}, {})
        np.testing.assert_allclose(out, np.asarray(meant).reshape(out.shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["int8_g32", "int4_g32_i5"])
@pytest.mark.parametrize(
    ("outputs", "inputs", "has_bias", "shared"),
    [(16, 32, False, True), (50, 96, True, True), (2053, 64, False, False), (1, 160, False, False)],
)
def test_codes(
    machine: Machine, grouping: Kernel, name: str, outputs: int, inputs: int, has_bias: bool, shared: bool
) -> None:
    """Each row is what the kernels for one matrix make of it, alone; 2053 outputs are spans of blocks."""
    element = find_format(name)
    random = np.random.default_rng(outputs)
    isa, coded = machine.isa, CodedMatrix(outputs, inputs, element)
    layout, dynamic = rows_for(coded), row_format(coded)
    weight = quantize(random.standard_normal((EXPERTS, outputs, inputs)).astype(np.float32), element)
    bias = random.standard_normal((EXPERTS, outputs)).astype(np.float32)
    view = Rows(inputs, inputs + 9, 4)
    product = machine.build(expert_linear_quantized(with_panels(isa, 8), "kernel", EXPERTS, coded, has_bias))
    rounding = machine.build(quantize_expert_rows(isa, "kernel", view, layout, EXPERTS, CHOSEN, shared))
    alone = machine.build(linear_quantized(isa, "kernel", coded, has_bias))
    round_alone = machine.build(quantize_rows(isa, "kernel", view, layout))

    def codes(count: int) -> list[np.ndarray]:
        return [filled((count, columns), dtype) for _, columns, dtype in layout.columns]

    arrays = [*pack(weight, Layout.BLOCKED), *(pack(bias, Layout.PADDED) if has_bias else ())]
    for num_tokens in COUNTS if outputs < 100 else COUNTS[-1:]:
        chosen = some_experts(num_tokens)
        x = np.full((num_tokens if shared else chosen.size, view.stride), np.nan, np.float32)
        rows = x[:, 4 : 4 + inputs]
        rows[...] = random.standard_normal(rows.shape)
        pairs = grouped(grouping, chosen)
        rounded, out = codes(chosen.size), filled((chosen.size, outputs), "float32")
        rounding(x, pairs[0], *rounded)
        product(*rounded, *pairs, *arrays, out)
        row, own_codes = filled((1, outputs), "float32"), codes(1)
        for pair, expert in enumerate(chosen.reshape(-1)[: 40 if outputs < 100 else 5]):
            own = [*pack(weight[expert], Layout.BLOCKED)]
            own += pack(bias[expert], Layout.PADDED) if has_bias else ()
            source = pair // CHOSEN if shared else pair
            round_alone(x[source : source + 1], *own_codes)
            alone(*own_codes, *own, row)
            np.testing.assert_array_equal(out[pair], row[0])
        given = quantize(rows if shared else rows.reshape(*chosen.shape, inputs), dynamic)
        operands = [given, weight, chosen, *([bias] if has_bias else [])]
        (meant,) = find_operator("expert_linear").evaluate(operands, {}, {})
        np.testing.assert_allclose(
            out, np.asarray(meant).reshape(out.shape), rtol=1e-4, atol=1e-4 * math.sqrt(inputs)
        )


def test_weighted_sum(machine: Machine) -> None:
    view, weights_view = Rows(42, 50, 3), Rows(CHOSEN, 8, 2)
    kernel = machine.build(weighted_sum(machine.isa, "kernel", view, weights_view))
    random = np.random.default_rng(0)
    x = random.standard_normal((11 * CHOSEN, view.stride)).astype(np.float32)
    weights = random.standard_normal((11, weights_view.stride)).astype(np.float32)
    out = filled((11, 42), "float32")
    kernel(x, weights, out)
    rows, factors = x[:, 3:45].reshape(11, CHOSEN, 42), weights[:, 2 : 2 + CHOSEN]
    (meant,) = find_operator("weighted_sum").evaluate([rows, factors], {}, {})
    np.testing.assert_allclose(out, meant, rtol=1e-5, atol=1e-6)


def test_take_chosen(machine: Machine) -> None:
    view = Rows(42, 50, 3)
    kernel = machine.build(take_chosen(machine.isa, "kernel", view, CHOSEN))
    random = np.random.default_rng(0)
    x = random.standard_normal((11, view.stride)).astype(np.float32)
    chosen = random.integers(0, 42, (11, CHOSEN)).astype(np.int32)
    out = filled((11, CHOSEN), "float32")
    kernel(x, chosen, out)
    (meant,) = find_operator("take_chosen").evaluate([x[:, 3:45], chosen], {}, {})
    np.testing.assert_array_equal(out, meant)
