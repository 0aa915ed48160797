"""A handful of architectures that no family here defines, through torch.export; all of them if asked for."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from .tiny_configs import causal_models
from .trying import TOLERANCE, try_one

HANDFUL = ("bloom", "deepseek_v32", "gptj", "mamba", "openai-gpt")
"""Slopes, an index, positions turned by pairs, a recurrence, a mask that scores are multiplied by."""

FEWEST = 170
"""How many of the 189 match at least as graphs: so many did when it was last measured."""


@pytest.mark.parametrize("model_type", HANDFUL)
def test_matches_transformers(model_type: str) -> None:
    outcome = try_one(model_type, causal_models()[model_type], False)
    assert not outcome.why
    assert outcome.interpreted is not None
    assert outcome.interpreted <= TOLERANCE


@pytest.mark.slow
def test_most_architectures_match_transformers() -> None:
    outcomes = [try_one(model_type, name, False) for model_type, name in causal_models().items()]
    assert (
        sum(outcome.interpreted is not None and outcome.interpreted <= TOLERANCE for outcome in outcomes)
        >= FEWEST
    )
