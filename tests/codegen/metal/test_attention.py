"""Attention by shaders, for few tokens and for many, next to the interpreter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from ingot.codegen.metal.attention import find_tile
from ingot.codegen.metal.limits import MAX_SHARED_BYTES
from ingot.ir import Graph, GraphBuilder, ScalarType, TensorType, Value
from ingot.ir.interpreter import evaluate

from ..cuda.emulated import needs_compiler
from .running import Step

pytestmark = needs_compiler


@dataclass(frozen=True)
class Case:
    heads: int
    kv_heads: int
    dim: int
    value_dim: int
    page_size: int = 16
    element: ScalarType = ScalarType.FLOAT16
    window: int = 0
    soft_cap: float = 0.0
    has_sinks: bool = False
    has_slopes: bool = False
    few: tuple[tuple[int, int], ...] = ((1, 530), (2, 9), (1, 1))
    many: tuple[tuple[int, int], ...] = ((19, 40), (3, 61), (12, 12))
    """Of each sequence: its new tokens, and positions with them."""


CASES = {
    "float32, groups of three, odd dims": Case(6, 2, 20, 12, 8, ScalarType.FLOAT32),
    "a window and sinks": Case(4, 1, 64, 40, window=37, has_sinks=True),
    "bfloat16, wide heads, capped": Case(2, 2, 128, 128, element=ScalarType.BFLOAT16, soft_cap=30.0),
    "a group wider than a tile, slopes": Case(
        *(36, 1, 8, 16),
        has_slopes=True,
        few=((1, 19), (2, 30)),
        many=((33, 35),),
    ),
    "heads so wide that tiles are small": Case(
        *(2, 1, 256, 256), few=((1, 33), (2, 9)), many=((30, 40), (4, 4))
    ),
    "heads too wide for tiles": Case(2, 1, 520, 40, few=((1, 17),), many=((2, 18),)),
}


def make_graph(case: Case) -> Graph:
    builder = GraphBuilder()
    rows = builder.input("numbers", ["tokens"], ScalarType.INT32)
    shapes = {"starts": ["starts"], "lengths": ["sequences"], "pages": ["sequences", "pages_per_sequence"]}
    slots = builder.input("slots", ["tokens"], ScalarType.INT32)
    batch = [builder.input(name, shape, ScalarType.INT32) for name, shape in shapes.items()]
    caches = [
        builder.state(name, ["pages", case.kv_heads, case.page_size, dim], case.element)
        for name, dim in (("keys", case.dim), ("values", case.value_dim))
    ]

    def rows_of(name: str, heads: int, dim: int) -> Value:
        table = builder.parameter(name, TensorType((64, heads * dim), ScalarType.FLOAT32))
        return builder.emit("reshape", builder.emit("gather_rows", table, rows), shape=("tokens", heads, dim))

    q = rows_of("q", case.heads, case.dim)
    k = rows_of("k", case.kv_heads, case.dim)
    v = rows_of("v", case.kv_heads, case.value_dim)
    written = builder.emit_all("append_kv", *caches, k, v, slots)
    sinks = [builder.parameter("sinks", TensorType((case.heads,), ScalarType.FLOAT32))]
    slopes = {"slopes": np.linspace(0.01, 0.4, case.heads).astype(np.float32)} if case.has_slopes else {}
    out = builder.emit(
        "paged_attention",
        *(q, *written, *batch, *(sinks if case.has_sinks else [])),
        scale=case.dim**-0.5,
        soft_cap=case.soft_cap,
        window=case.window,
        **slopes,
    )
    return builder.build(out)


def check(case: Case, step: Step, graph: Graph, parameters: dict[str, np.ndarray], is_few: bool) -> None:
    """Cached is what lies before the new tokens; nothing else of the pages is a number."""
    random = np.random.default_rng(8)
    sequences = case.few if is_few else case.many
    per_sequence = max(-(-length // case.page_size) for _, length in sequences)
    table = random.permutation(len(sequences) * per_sequence).astype(np.int32).reshape(len(sequences), -1)
    dtype = ml_dtypes.bfloat16 if case.element is ScalarType.BFLOAT16 else np.dtype(case.element.value)
    caches: dict[str, npt.NDArray[np.generic]] = {}
    for name, dim in (("keys", case.dim), ("values", case.value_dim)):
        cache = np.full((table.size, case.kv_heads, case.page_size, dim), np.nan, np.float32)
        for pages, (new, length) in zip(table, sequences, strict=True):
            for position in range(length - new):
                page, offset = pages[position // case.page_size], position % case.page_size
                cache[page, :, offset] = random.normal(size=(case.kv_heads, dim))
        caches[name] = cache.astype(dtype)
        lies = caches[name] if name == "keys" else caches[name].transpose(0, 1, 3, 2)
        step.set_state(name, np.ascontiguousarray(lies))
    counts = [new for new, _ in sequences]
    places = [
        pages[position // case.page_size] * case.page_size + position % case.page_size
        for pages, (new, length) in zip(table, sequences, strict=True)
        for position in range(length - new, length)
    ]
    inputs = {
        "numbers": random.permutation(64)[: sum(counts)].astype(np.int32),
        "slots": np.array(places, np.int32),
        "starts": np.cumsum([0, *counts]).astype(np.int32),
        "lengths": np.array([length for _, length in sequences], np.int32),
        "pages": table,
    }
    (expected,) = evaluate(graph, {**parameters, **caches, **inputs})
    longest = max(length for _, length in sequences)
    symbols = {
        "tokens": sum(counts),
        "sequences": len(sequences),
        "pages_per_sequence": per_sequence,
        "pieces": -(-longest // step.plan.piece_size),
    }
    found = step.run(inputs, symbols)
    np.testing.assert_allclose(found, np.asarray(expected), rtol=2e-5, atol=2e-5)
    # The sequences the other way round: no bit of theirs depends on who comes before them.
    starts = inputs["starts"]
    rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in reversed(range(len(counts)))])
    turned = {
        "numbers": inputs["numbers"][rows],
        "slots": inputs["slots"][rows],
        "starts": np.cumsum([0, *reversed(counts)]).astype(np.int32),
        "lengths": inputs["lengths"][::-1],
        "pages": table[::-1],
    }
    np.testing.assert_array_equal(step.run(turned, symbols), found[rows])


OFTEN = ("float32, groups of three, odd dims", "a window and sinks")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in CASES]
)
def test_attention(name: str, tmp_path: Path) -> None:
    case, random = CASES[name], np.random.default_rng(7)
    graph = make_graph(case)
    shapes = {value.name: value.type.shape for value in graph.parameters}
    parameters = {
        key: random.normal(size=[int(dim) for dim in shape]).astype(np.float32)
        for key, shape in shapes.items()
    }
    most = {"tokens": 64, "sequences": 4, "pages": 256, "pieces": 2, "pages_per_sequence": 64}
    step = Step(graph, tmp_path, parameters, most)
    check(case, step, graph, parameters, is_few=True)
    few = step.kernels[-2:]
    check(case, step, graph, parameters, is_few=False)
    if name == "heads too wide for tiles":
        assert step.kernels[-1] == few[-1] == "attend"
    else:
        assert few == ["attend_pieces", "join_pieces"]
        assert step.kernels[-1] == "attend_tiles"


@pytest.mark.parametrize("dim", [16, 40, 64, 80, 96, 128, 192, 256])
def test_tiles_fit_what_there_is(dim: int) -> None:
    for lines in (1, 8, 32):
        tile = find_tile(dim, dim, lines)
        assert tile is not None
        assert tile.num_bytes <= MAX_SHARED_BYTES
    assert find_tile(600, 512, 32) is None
