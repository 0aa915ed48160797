"""Keys and values in pages of floats and of codes, written and attended to, as the interpreter means them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ingot.ir import Array, GraphBuilder, TensorType, evaluate, filled, find_format
from ingot.ir.types import Element, ScalarType

from .emulated import needs_compiler
from .one_step import OneStep

pytestmark = needs_compiler

HEADS, KV_HEADS, PAGE_SIZE, VOCAB, PAGES = 6, 2, 16, 37, 9
ELEMENTS: dict[str, tuple[Element, int, int]] = {
    "int8": (find_format("dynamic_int8_g32_f16"), 64, 32),
    "int4": (find_format("dynamic_int4_g32_f16"), 64, 128),
    "int8, whole heads": (find_format("dynamic_int8_row_f16"), 20, 20),
    "int4, whole heads": (find_format("dynamic_int4_row_f16"), 20, 36),
    "float16": (ScalarType.FLOAT16, 64, 24),
    "float16, odd dimensions": (ScalarType.FLOAT16, 40, 24),
}
OFTEN = ("int8", "float16")
STEPS = ((9, 3), (1, 1), (38, 5))
"""Tokens of two sequences, step after step."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in ELEMENTS]
)
def test_pages(name: str, gpu: Path, tmp_path: Path) -> None:
    element, dim, value_dim = ELEMENTS[name]
    random, builder = np.random.default_rng(3), GraphBuilder()
    parameters: dict[str, Array] = {}
    token_ids = builder.input("token_ids", ("tokens",), ScalarType.INT32)
    batch = [
        builder.input("sequence_starts", ("sequence_bounds",), ScalarType.INT32),
        builder.input("context_lengths", ("sequences",), ScalarType.INT32),
        builder.input("page_table", ("sequences", "pages_per_sequence"), ScalarType.INT32),
    ]
    slots = builder.input("slots", ("tokens",), ScalarType.INT32)
    caches = [
        builder.state(which, ("pages", KV_HEADS, PAGE_SIZE, width), element)
        for which, width in (("keys", dim), ("values", value_dim))
    ]
    rows = []
    for which, heads, width in (("q", HEADS, dim), ("k", KV_HEADS, dim), ("v", KV_HEADS, value_dim)):
        table = builder.parameter(which, TensorType((VOCAB, heads * width), ScalarType.FLOAT32))
        parameters[which] = random.standard_normal((VOCAB, heads * width), np.float32)
        x = builder.emit("embedding", table, token_ids)
        rows.append(builder.emit("reshape", x, shape=("tokens", heads, width)))
    written = builder.emit_all("append_kv", *caches, *rows[1:], slots)
    attended = builder.emit("paged_attention", rows[0], *written, *batch, scale=0.3, soft_cap=0.0, window=0)
    out = builder.emit("reshape", attended, shape=("tokens", HEADS * value_dim))
    out = builder.emit("mul", out, builder.constant(np.float32(1)))
    graph = builder.build(out, *written)
    most = {"tokens": 48, "rows": 48, "sequences": 2, "sequence_bounds": 3, "pages": PAGES}
    step = OneStep(graph, parameters, tmp_path, {**most, "pages_per_sequence": 3, "pieces": 1})
    table = np.array([[4, 1, 7], [0, 8, 2]], np.int32)
    states: list[Array] = [filled(cache.type, most, 0) for cache in caches]
    lengths = np.zeros(2, np.int32)
    try:
        for counts in STEPS:
            starts = np.array([0, counts[0], sum(counts)], np.int32)
            positions = [lengths[i] + np.arange(count) for i, count in enumerate(counts)]
            lengths += np.array(counts, np.int32)
            given = {
                "token_ids": random.integers(0, VOCAB, sum(counts)).astype(np.int32),
                "sequence_starts": starts,
                "context_lengths": lengths.copy(),
                "page_table": table,
                "slots": np.concatenate(
                    [
                        table[i, own // PAGE_SIZE] * PAGE_SIZE + own % PAGE_SIZE
                        for i, own in enumerate(positions)
                    ]
                ).astype(np.int32),
            }
            old = dict(zip(("keys", "values"), states, strict=True))
            meant, *states = evaluate(graph, {**given, **old, **parameters})
            sizes = {"tokens": sum(counts), "rows": sum(counts), "sequences": 2, "pages_per_sequence": 3}
            found = step.run(given, {**sizes, "pieces": 1})
            np.testing.assert_allclose(found, np.asarray(meant), rtol=2e-5, atol=2e-5)
    finally:
        step.close()
