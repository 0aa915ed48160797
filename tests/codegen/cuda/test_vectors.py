"""Attention within whole sequences, pooling and unit vectors on the emulation, against the interpreter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from ingot.ir import Graph, GraphBuilder, ScalarType, TensorType, evaluate

from .emulated import needs_compiler
from .steps import EmulatedStep

pytestmark = needs_compiler

Arrays = dict[str, npt.NDArray[np.generic]]
LENGTHS = (1, 5, 70, 33, 2, 16)


@dataclass(frozen=True)
class Attention:
    heads: int
    kv_heads: int
    dim: int
    window: int = 0
    causal: bool = False


ATTENTIONS = (
    Attention(heads=3, kv_heads=3, dim=10),
    Attention(heads=4, kv_heads=2, dim=64, causal=True),
    Attention(heads=2, kv_heads=1, dim=100, window=7),
    Attention(heads=1, kv_heads=1, dim=300, window=35),
    Attention(heads=2, kv_heads=2, dim=17, window=9, causal=True),
)
KINDS = ("first", "last", "max", "mean")


def symbols_of(lengths: tuple[int, ...]) -> dict[str, int]:
    return {"tokens": sum(lengths), "sequences": len(lengths)}


def described(lengths: tuple[int, ...]) -> Arrays:
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    return {"sequence_starts": starts, "context_lengths": np.array(lengths, np.int32)}


@cache
def attentions(is_half: bool) -> tuple[Graph, EmulatedStep, Arrays]:
    """All of them beside each other, on rows in which queries, keys and values do not begin at an edge.

    With weights of half width they are computed on tensor cores.
    """
    builder, random = GraphBuilder(), np.random.default_rng(3)
    if is_half:
        builder.parameter("some weight", TensorType((2, 3), ScalarType.BFLOAT16))
    starts = builder.input("sequence_starts", ["sequence_bounds"], ScalarType.INT32)
    arrays, results = described(LENGTHS), []
    for number, one in enumerate(ATTENTIONS):
        widths = [one.heads * one.dim, one.kv_heads * one.dim, one.kv_heads * one.dim]
        before = 3 if number == 2 else 4
        stride = sum(widths) + before
        whole = builder.input(f"rows{number}", ["tokens", stride], ScalarType.FLOAT32)
        arrays[f"rows{number}"] = random.standard_normal((sum(LENGTHS), stride)).astype(np.float32)
        heads = []
        for count, width in zip((one.heads, one.kv_heads, one.kv_heads), widths, strict=True):
            part = builder.emit("slice", whole, axis=1, start=before, stop=before + width)
            heads.append(builder.emit("reshape", part, shape=("tokens", count, one.dim)))
            before += width
        attended = builder.emit(
            "ragged_attention",
            *heads,
            starts,
            scale=one.dim**-0.5,
            window=one.window,
            causal=one.causal,
        )
        results.append(builder.emit("reshape", attended, shape=("tokens", widths[0])))
    graph = builder.build(builder.emit("concat", *results, axis=1))
    return graph, EmulatedStep(graph), arrays


@pytest.mark.parametrize("is_half", [False, True])
def test_attention_is_that_of_the_interpreter(is_half: bool) -> None:
    graph, step, arrays = attentions(is_half)
    (expected,) = evaluate(graph, arrays)
    tolerance = 1e-4 if is_half else 1e-5
    found = step.run(arrays, symbols_of(LENGTHS))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("is_half", [False, True])
def test_no_bit_of_attention_depends_on_the_batch(is_half: bool) -> None:
    _, step, arrays = attentions(is_half)
    together = step.run(arrays, symbols_of(LENGTHS))
    for sequence, length in enumerate(LENGTHS):
        first = int(np.asarray(arrays["sequence_starts"])[sequence])
        own = {
            name: np.ascontiguousarray(array[first : first + length])
            for name, array in arrays.items()
            if name.startswith("rows")
        } | described((length,))
        np.testing.assert_array_equal(step.run(own, symbols_of((length,))), together[first : first + length])


def test_pooling_is_that_of_the_interpreter() -> None:
    builder, random = GraphBuilder(), np.random.default_rng(4)
    starts = builder.input("sequence_starts", ["sequence_bounds"], ScalarType.INT32)
    lengths = builder.input("context_lengths", ["sequences"], ScalarType.INT32)
    rows = builder.input("rows", ["tokens", 300], ScalarType.FLOAT32)
    pooled = [builder.emit("pool", rows, starts, lengths, kind=kind) for kind in KINDS]
    units = [builder.emit("l2_normalize", row, epsilon=1e-12) for row in pooled]
    graph = builder.build(builder.emit("concat", *pooled, *units, axis=1))
    arrays = described(LENGTHS)
    arrays["rows"] = random.standard_normal((sum(LENGTHS), 300)).astype(np.float32)
    (expected,) = evaluate(graph, arrays)
    found = EmulatedStep(graph).run(arrays, symbols_of(LENGTHS))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
