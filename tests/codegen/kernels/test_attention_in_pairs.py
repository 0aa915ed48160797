"""Attention over a cache of bfloat16, on machines that multiply pairs of them, against the interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingot.codegen.kernels.attention import AttentionShape, paged_attention
from ingot.codegen.kernels.isa import DotsBfloat16
from ingot.codegen.kernels.rows import Rows

from .machines import Kernel, Machine, find_machine
from .test_attention import BFLOAT16, MIXED, OFFSET, PLAIN, STRIDE_MORE, make_batch, meaning, run

WIDE = replace(PLAIN, element=BFLOAT16)
SHAPES = {
    "three heads a KV head": replace(WIDE, head_dim=64, value_dim=64, page_size=32),
    "a window, pages of several blocks": replace(WIDE, head_dim=35, value_dim=32, window=71, page_size=128),
    "soft cap, sinks": replace(WIDE, kv_heads=6, head_dim=80, value_dim=80, soft_cap=1.5, has_sinks=True),
}


@pytest.fixture(
    scope="module", params=["x86-64-v4-bf16", pytest.param("aarch64-i8mm", marks=pytest.mark.slow)]
)
def machine(request: pytest.FixtureRequest) -> Machine:
    found = find_machine(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest) -> AttentionShape:
    return SHAPES[request.param]


@pytest.fixture(scope="module")
def kernel(machine: Machine, shape: AttentionShape) -> Kernel:
    assert isinstance(machine.isa, DotsBfloat16)
    assert shape.goes_in_pairs(machine.isa)
    width = shape.heads * shape.head_dim
    view = Rows(width, width + STRIDE_MORE, OFFSET)
    return machine.build(paged_attention(machine.isa, "kernel", shape, view))


def test_queries_and_weights_are_rounded_and_no_more(kernel: Kernel, shape: AttentionShape) -> None:
    batch = make_batch(shape, MIXED)
    np.testing.assert_allclose(run(kernel, shape, batch), meaning(shape, batch), rtol=2e-2, atol=2e-2)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 600)), min_size=1, max_size=5), st.data())
def test_no_bit_depends_on_the_batch_or_how_it_was_cut(
    kernel: Kernel, shape: AttentionShape, sequences: list[tuple[int, int]], data: st.DataObject
) -> None:
    batch = make_batch(shape, [(count, count + before) for count, before in sequences])
    together = run(kernel, shape, batch)
    chosen = data.draw(st.integers(0, len(sequences) - 1))
    rows = together[batch.starts[chosen] : batch.starts[chosen + 1]]
    cut = data.draw(st.integers(0, len(rows)))
    for part in (slice(0, cut), slice(cut, len(rows))):
        if part.start < part.stop:
            np.testing.assert_array_equal(run(kernel, shape, batch.only(chosen, part)), rows[part])
