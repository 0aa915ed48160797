"""Products of many rows by tiles, on Hopper's groups of warps and on warps alone, as the interpreter does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from ingot.codegen.cuda import tile_products
from ingot.ir import Array, Graph, GraphBuilder, TensorType, evaluate, find_format, quantize
from ingot.ir.types import ScalarType
from ingot.passes.quantize_weights import activations_for

from . import emulated
from .emulated import needs_compiler
from .one_step import OneStep

pytestmark = needs_compiler

VOCAB = 41


@dataclass(frozen=True)
class Case:
    """Weights of an element, whose rows are cast to bfloat16 where ``rounded``; and a gate behind them."""

    element: str
    outputs: int
    inputs: int
    rounded: bool = False
    gate: str = ""

    @property
    def name(self) -> str:
        return f"{self.element}{self.gate}"


CASES = (
    Case("bfloat16", 150, 224, rounded=True),  # the last chunk is half a one
    Case("float16", 37, 70),  # an odd number of outputs; inputs that no tile divides
    Case("int4_g32_i5", 136, 640),  # exact; five spans in the last chunk's place of eight
    Case("int8_g32", 24, 160),
    Case("q4_k", 64, 256, gate="silu_mul"),  # minima
    Case("q2_k", 24, 256),  # groups of 16
    Case("fp8_e4m3_row", 37, 87),  # rows stay floats, of no whole spans
    Case("fp8_e5m2_g32", 24, 160),
    Case("nf4_g64", 24, 192),  # tables of floats
    Case("fp8_e4m3_row_a8", 37, 160),
    Case("fp8_e4m3_g64_a8", 24, 192),
)
BLOCKS = {"64 rows": 21, "128 rows": 67, "256 rows": 131}
"""How many rows take blocks of so many, where few blocks are enough."""


def graph_of(random: np.random.Generator) -> tuple[Graph, dict[str, Array]]:
    """The cases' results side by side, so that all are one program."""
    builder, parameters = GraphBuilder(), dict[str, Array]()
    token_ids, results = builder.input("token_ids", ("tokens",), ScalarType.INT32), []
    for case in CASES:
        is_float = case.element in ("bfloat16", "float16")
        element = ScalarType(case.element) if is_float else find_format(case.element)
        table = builder.parameter(f"{case.name}.table", TensorType((VOCAB, case.inputs), ScalarType.FLOAT32))
        weight = builder.parameter(f"{case.name}.weight", TensorType((case.outputs, case.inputs), element))
        bias = builder.parameter(f"{case.name}.bias", TensorType((case.outputs,), ScalarType.FLOAT32))
        values = random.standard_normal((case.outputs, case.inputs), np.float32)
        parameters[table.name] = random.standard_normal((VOCAB, case.inputs), np.float32)
        parameters[weight.name] = (
            values.astype(ml_dtypes.bfloat16 if case.element == "bfloat16" else np.float16)
            if is_float
            else quantize(values, find_format(case.element))
        )
        parameters[bias.name] = random.standard_normal(case.outputs, np.float32)
        x = builder.emit("embedding", table, token_ids)
        if case.rounded:
            x = builder.emit("cast", x, to="bfloat16")
        elif not is_float and (rows := activations_for(weight.type)) is not None:
            x = builder.emit("quantize", x, format=rows.name)
        result = builder.emit("linear", x, weight, bias)
        results.append(builder.emit(case.gate, result) if case.gate else result)
    return builder.build(builder.emit("concat", *results, axis=1)), parameters


def check(counts: tuple[int, ...], folder: Path) -> None:
    random = np.random.default_rng(3)
    graph, parameters = graph_of(random)
    step = OneStep(graph, parameters, folder, {"tokens": max(counts), "rows": max(counts)})
    try:
        for count in counts:
            ids = random.integers(0, VOCAB, count).astype(np.int32)
            (meant,) = evaluate(graph, {"token_ids": ids, **parameters})
            found = step.run({"token_ids": ids}, {"tokens": count, "rows": count})
            np.testing.assert_allclose(found, meant, rtol=2e-4, atol=2e-3)
    finally:
        step.close()


def test_tiles_give_what_rows_times_weights_are(gpu: Path, tmp_path: Path) -> None:
    check((BLOCKS["64 rows"],), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("has_warpgroups", [True, False], ids=["hopper", "before"])
def test_so_they_do_in_blocks_of_every_size_and_before_hopper(
    has_warpgroups: bool, gpu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated, "HAS_WARPGROUPS", has_warpgroups)
    monkeypatch.setattr(tile_products, "ENOUGH_BLOCKS", 2)
    check((17, *BLOCKS.values(), 300), tmp_path)
