"""Means, norms of parts of rows, and orders of columns on the emulation, against the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from ingot.codegen.kernels.layout import Layout, pack
from ingot.ir import GraphBuilder, ScalarType, TensorType, evaluate, find_format, quantize

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


@pytest.mark.parametrize("rounding", ["dynamic_int8_g32", "dynamic_int8_row"])
def test_rows_are_rounded_in_the_kernel_that_computed_them(rounding: str) -> None:
    """To the bits that a kernel of its own gives, which there is where another is launched between."""
    builder, random = GraphBuilder(), np.random.default_rng(4)
    arrays = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in {"whole": (5, 900), "norm": (288,)}.items()
    }
    whole = builder.input("whole", ["tokens", 900], ScalarType.FLOAT32)
    rows = builder.emit("slice", whole, axis=1, start=4, stop=292)
    wide = builder.emit("slice", whole, axis=1, start=300, stop=876)
    norm = builder.parameter("norm", TensorType((288,), ScalarType.FLOAT32))
    weight = quantize(random.standard_normal((19, 288)).astype(np.float32), find_format("int8_g32"))
    matrix = builder.parameter("matrix", TensorType((19, 288), find_format("int8_g32")))
    lying = {f"matrix#{number}": array for number, array in enumerate(pack(weight, Layout.BLOCKED))}
    makers = (
        lambda: builder.emit("rms_norm", rows, norm, epsilon=1e-5),
        lambda: builder.emit("layer_norm", rows, norm, epsilon=1e-5),
        lambda: builder.emit("silu_mul", wide),
        lambda: builder.emit("mul", rows, rows),
        lambda: builder.emit_all("add_rms_norm", rows, rows, norm, epsilon=1e-5)[1],
    )
    products = []
    for is_apart in (False, True):
        for make in makers:
            computed = make()
            if is_apart:
                builder.emit("add", rows, rows)
            rounded = builder.emit("quantize", computed, format=rounding)
            products.append(builder.emit("linear", rounded, matrix))
    graph = builder.build(builder.emit("concat", *products, axis=1))
    step = EmulatedStep(graph)
    assert sum("_rounded_" in kernel for kernel in step.kernels) == len(makers)
    (expected,) = evaluate(graph, {**arrays, "matrix": weight})
    found = step.run({**arrays, **lying}, {"tokens": 5})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    half = found.shape[1] // 2
    np.testing.assert_array_equal(found[:, :half], found[:, half:])
