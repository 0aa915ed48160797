"""Kernels of rows that follow each other are one launch, and each finds its arguments by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ingot.codegen.cuda.machine import CUDA
from ingot.codegen.gpu.planning import Planning
from ingot.codegen.gpu.row_launch import RowLaunch
from ingot.codegen.gpu.rules import RULES
from ingot.ir import Array, Graph, GraphBuilder, ScalarType, TensorType, evaluate
from ingot.targets.launch_plan import Argument, Bound, Size

from .emulated import needs_compiler
from .one_step import OneStep

VOCAB, WIDTH = 11, 48


def launch(name: str, *bounds: Bound) -> RowLaunch:
    arguments = (("const float* x", Argument("buffer", f"{name}0")), ("float* out", Argument("buffer", name)))
    return RowLaunch(name, f"{name}(x, out);", arguments, (Size(1, ("tokens",)),), 256, bounds)


def test_two_and_three_are_one() -> None:
    both = launch("first").then(launch("second"))
    assert both is not None
    three = both.then(launch("third"))
    assert three is not None
    assert three.name == "first_second_third"
    assert [declaration for declaration, _ in three.arguments] == [
        *("const float* given0", "float* given1", "const float* given2"),
        *("float* given3", "const float* given4", "float* given5"),
    ]
    assert three.body == (
        "{ const float* x = given0; float* out = given1; first(x, out); } block_barrier(); "
        "{ const float* x = given2; float* out = given3; second(x, out); } block_barrier(); "
        "{ const float* x = given4; float* out = given5; third(x, out); }"
    )


def test_launches_of_other_batches_stay_apart() -> None:
    assert launch("first").then(launch("second", Bound("tokens", at_most=8))) is None


def normed(random: np.random.Generator) -> tuple[Graph, dict[str, Array]]:
    """A look-up, and then rows: a norm, a sum, a gate."""
    builder = GraphBuilder()
    token_ids = builder.input("token_ids", ("tokens",), ScalarType.INT32)
    table = builder.parameter("table", TensorType((VOCAB, WIDTH), ScalarType.FLOAT32))
    weight = builder.parameter("weight", TensorType((WIDTH,), ScalarType.FLOAT32))
    x = builder.emit("embedding", table, token_ids)
    y = builder.emit("rms_norm", x, weight, epsilon=1e-6)
    gated = builder.emit("silu_mul", builder.emit("add", x, y))
    return builder.build(builder.emit("mul", gated, builder.constant(np.float32(2)))), {
        "table": random.standard_normal((VOCAB, WIDTH), np.float32),
        "weight": random.standard_normal(WIDTH, np.float32),
    }


def test_a_chain_of_rows_is_one_launch() -> None:
    graph, _ = normed(np.random.default_rng(0))
    plan, _ = Planning(graph, CUDA, RULES).run(())
    assert [one.kernel.rpartition("_")[0] for one in plan.launches] == [
        "embedding",
        "rms_norm_elementwise_gate_elementwise",
    ]


@needs_compiler
def test_which_computes_what_they_did(gpu: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    graph, parameters = normed(random)
    step = OneStep(graph, parameters, tmp_path, {"tokens": 5, "rows": 5})
    try:
        ids = random.integers(0, VOCAB, 5).astype(np.int32)
        (meant,) = evaluate(graph, {"token_ids": ids, **parameters})
        found = step.run({"token_ids": ids}, {"tokens": 5, "rows": 5})
        np.testing.assert_allclose(found, meant, rtol=1e-5, atol=1e-6)
    finally:
        step.close()
