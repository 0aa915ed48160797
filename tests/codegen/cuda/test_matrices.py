"""Rows that meet several matrices, those of experts and of heads, in formats, as the interpreter does."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from ingot.ir import Array, GraphBuilder, TensorType, Value, evaluate, find_format, quantize
from ingot.ir.types import Element, ScalarType
from ingot.passes.quantize_weights import activations_for

from .emulated import needs_compiler
from .one_step import OneStep

pytestmark = needs_compiler

OFTEN = ("bfloat16", "int8_g32")
SELDOM = (
    "int4_g32_i5",
    "mxfp4",
    "fp8_e4m3_g128",
    "fp8_e4m3_g128_a8",
    "q4_k",
    "int8_row",
    "int3_g64_z",
    "nf4_g64",
)
VOCAB, EXPERTS, CHOSEN, HEADS, OUTPUTS = 37, 6, 2, 3, 40
COUNTS = (1, 5, 21)
"""Tokens: alone, few, and many."""


def check(names: tuple[str, ...], inputs: int, tmp_path: Path) -> None:
    """All formats are one program: their results lie side by side."""
    random, builder = np.random.default_rng(7), GraphBuilder()
    parameters: dict[str, Array] = {}
    token_ids = builder.input("token_ids", ("tokens",), ScalarType.INT32)

    def rows(name: str, width: int) -> Value:
        table = builder.parameter(name, TensorType((VOCAB, width), ScalarType.FLOAT32))
        parameters[name] = random.standard_normal((VOCAB, width), np.float32)
        return builder.emit("embedding", table, token_ids)

    def multiply(operator: str, x: Value, name: str, matrices: int, *operands: Value) -> Value:
        """Of rows that are rounded as weights in this format want them."""
        element: Element = ScalarType.BFLOAT16 if name == "bfloat16" else find_format(name)
        type_ = TensorType((matrices, OUTPUTS, inputs), element)
        weight = builder.parameter(f"{name}.{operator}", type_)
        values = random.standard_normal(type_.shape, np.float32)
        if isinstance(element, ScalarType):
            parameters[weight.name] = values.astype(ml_dtypes.bfloat16)
            x = builder.emit("cast", x, to="bfloat16")
        else:
            parameters[weight.name] = quantize(values, element)
            format_of_rows = activations_for(type_)
            x = x if format_of_rows is None else builder.emit("quantize", x, format=format_of_rows.name)
        return builder.emit(operator, x, weight, *operands)

    chosen, weights = builder.emit_all(
        "route",
        rows("logits", EXPERTS),
        experts_per_token=CHOSEN,
        scores="softmax",
        groups=1,
        kept_groups=1,
        group_terms=1,
        normalize=True,
        scale=1.0,
        jitter=0.0,
    )
    shared = rows("shared", inputs)
    own, heads = (
        builder.emit("reshape", rows(name, count * inputs), shape=("tokens", count, inputs))
        for name, count in (("own", CHOSEN), ("heads", HEADS))
    )
    results = []
    for name in names:
        products = [
            multiply("expert_linear", shared, name, EXPERTS, chosen),
            multiply("head_linear", heads, name, HEADS),
        ]
        weighted = builder.emit("weighted_sum", products[0], weights)
        results += [weighted, builder.emit("reshape", products[1], shape=("tokens", HEADS * OUTPUTS))]
    last = multiply("expert_linear", own, "q8_0", EXPERTS, chosen)
    results.append(builder.emit("reshape", last, shape=("tokens", CHOSEN * OUTPUTS)))
    graph = builder.build(builder.emit("concat", *results, axis=1))
    most = max(COUNTS)
    step = OneStep(graph, parameters, tmp_path, {"tokens": most, "rows": most})
    try:
        for count in COUNTS:
            ids = random.integers(0, VOCAB, count).astype(np.int32)
            (meant,) = evaluate(graph, {"token_ids": ids, **parameters})
            found = step.run({"token_ids": ids}, {"tokens": count, "rows": count})
            np.testing.assert_allclose(found, np.asarray(meant), rtol=2e-4, atol=5e-3)
    finally:
        step.close()


def test_experts_and_heads(gpu: Path, tmp_path: Path) -> None:
    check(OFTEN, 96, tmp_path)


@pytest.mark.slow
def test_experts_and_heads_in_other_formats(gpu: Path, tmp_path: Path) -> None:
    check(SELDOM, 256, tmp_path)
