"""Means, norms of parts of rows, and orders of columns on the emulation, against the interpreter."""

from __future__ import annotations

import numpy as np
from ingot.ir import GraphBuilder, ScalarType, TensorType, evaluate

from .emulated import needs_compiler
from .steps import EmulatedStep

pytestmark = needs_compiler


def test_rows_are_those_of_the_interpreter() -> None:
    builder, random = GraphBuilder(), np.random.default_rng(3)
    arrays = {"rows": random.standard_normal((5, 312)).astype(np.float32)}

    def parameter(array: np.ndarray) -> object:  # type: ignore[type-arg]
        name = f"parameter{len(arrays)}"
        arrays[name] = array
        return builder.parameter(name, TensorType(array.shape, ScalarType.of(array)))

    whole = builder.input("rows", ["tokens", 312], ScalarType.FLOAT32)
    rows = builder.emit("slice", whole, axis=1, start=10, stop=310)
    parts = builder.emit("reshape", rows, shape=("tokens", 4, 75))
    weights = [parameter(random.standard_normal(75).astype(np.float32)) for _ in range(2)]
    results = [
        builder.emit("mean", rows, axis=1),
        builder.emit("mean", parts, axis=1),
        builder.emit("mean", parts, axis=2),
        builder.emit("layer_norm", parts, *weights, epsilon=1e-5),
        *builder.emit_all("add_layer_norm", parts, parts, weights[0], epsilon=1e-5),
        builder.emit("permute_columns", rows, parameter(random.permutation(300).astype(np.int32))),
    ]
    widths = (1, 75, 4, 300, 300, 300, 300)
    flat = [
        builder.emit("reshape", result, shape=("tokens", width))
        for result, width in zip(results, widths, strict=True)
    ]
    joined = builder.emit("concat", *flat, axis=1)
    # What the step gives is a part of another array.
    graph = builder.build(builder.emit("slice", joined, axis=1, start=0, stop=sum(widths) - 1))
    (expected,) = evaluate(graph, arrays)
    found = EmulatedStep(graph).run(arrays, {"tokens": 5})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
