"""Formats chosen for a size or an accuracy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingot.ir import find_format
from ingot.ir.errors import CompileError
from ingot.passes import PipelineOptions, fusing_passes, run_passes
from ingot.passes.calibration import Choice, allocate, divergence_with, measure_sensitivities

from ..plain_llama import PlainLlama

CHOICES = st.lists(st.tuples(st.integers(1, 40), st.floats(0, 10)), min_size=1, max_size=4).map(
    lambda pairs: [Choice(f"f{n}", size, loss) for n, (size, loss) in enumerate(pairs)]
)


def totals(choices: list[Choice]) -> tuple[int, float]:
    return sum(choice.num_bytes for choice in choices), sum(choice.loss for choice in choices)


@settings(max_examples=60)
@given(st.lists(CHOICES, min_size=1, max_size=4), st.floats(0, 1))
def test_a_size_is_kept_and_no_choice_is_much_better(weights: list[list[Choice]], share: float) -> None:
    everything = [totals(list(each)) for each in product(*weights)]
    smallest, largest = min(everything)[0], max(everything)[0]
    budget = int(smallest + share * (largest - smallest))
    size, loss = totals(allocate(weights, max_bytes=budget))
    best = min(total for count, total in everything if count <= budget)
    assert size <= budget
    # The gap to the best of all, found by trying all, is less than what one weight can gain.
    widest = max(max(c.loss for c in each) - min(c.loss for c in each) for each in weights)
    assert best - 1e-9 <= loss <= best + widest + 1e-9
    # And for the bytes it takes it is the best of all, as long as no step was left out for being too large.
    generous = totals(allocate(weights, max_bytes=largest))
    assert generous[1] == pytest.approx(min(total for _, total in everything))


@settings(max_examples=40)
@given(st.lists(CHOICES, min_size=1, max_size=4), st.floats(0, 1))
def test_a_loss_is_kept_by_few_bytes(weights: list[list[Choice]], share: float) -> None:
    everything = [totals(list(each)) for each in product(*weights)]
    least, most = min(total for _, total in everything), max(total for _, total in everything)
    bound = least + share * (most - least) + 1e-9
    size, loss = totals(allocate(weights, max_loss=bound))
    fewest = min(count for count, total in everything if total <= bound)
    assert loss <= bound
    assert size <= fewest + max(choice.num_bytes for each in weights for choice in each)


def test_what_cannot_be_kept_is_refused() -> None:
    weights = [[Choice("a", 10, 1.0), Choice("b", 20, 0.25)]] * 2
    with pytest.raises(CompileError, match=r"take 20 bytes in the smallest formats .* shall take 19"):
        allocate(weights, max_bytes=19)
    with pytest.raises(CompileError, match=r"cost 0\.5 nats at best, and shall cost 0\.4"):
        allocate(weights, max_loss=0.4)
    with pytest.raises(CompileError, match="within 30 bytes"):
        allocate(weights, max_bytes=30, max_loss=0.6)
    assert totals(allocate(weights, max_bytes=30, max_loss=1.3)) == (30, 1.25)


@pytest.mark.parametrize("tied", [True, False])
def test_sensitivities_foretell_what_formats_cost(tied: bool) -> None:
    model = PlainLlama(head_dim=32, tied=tied)
    options = PipelineOptions(max_seq_len=64, page_size=4)
    module = run_passes(model.module(), fusing_passes(options)).module
    sequences = [np.random.default_rng(n).integers(0, model.vocab, 24).astype(np.int32) for n in range(2)]
    names = ("int4_g32", "int8_g32")
    found = {each.weight: each for each in measure_sensitivities(module, model.weights, names, sequences)}
    assert len(found) == 2 * 7 + (1 if tied else 2)
    for weight in ("model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight"):
        losses = found[weight].losses
        single = [divergence_with(module, model.weights, {weight: name}, sequences) for name in names]
        assert losses["int4_g32"] == pytest.approx(single[0], rel=1e-3)
        assert losses["int8_g32"] == pytest.approx(single[1], rel=1)
        assert losses["int8_g32"] < losses["int4_g32"] / 50
    together = divergence_with(module, model.weights, dict.fromkeys(found, "int4_g32"), sequences)
    assert together == pytest.approx(sum(each.losses["int4_g32"] for each in found.values()), rel=1)
    assert divergence_with(module, model.weights, {}, sequences) == 0


def test_formats_that_do_not_fit_are_left_out() -> None:
    model = PlainLlama()  # rows of 48 into o_proj
    module = run_passes(model.module(), fusing_passes(PipelineOptions(max_seq_len=64, page_size=4))).module
    sequence = np.arange(12, dtype=np.int32)
    found = measure_sensitivities(module, model.weights, ["int4_g32", "int4_g16"], [sequence])
    fitting = {each.weight.split(".")[-2]: set(each.losses) for each in found}
    assert fitting["o_proj"] == {"int4_g16"}
    assert fitting["q_proj"] == {"int4_g16", "int4_g32"}
    assert find_format("int4_g16").block_size == 16
