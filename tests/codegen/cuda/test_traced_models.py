"""Models of no family here, traced and run by the emulated driver, against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.runtime.engine.engine import Engine

from ...exactness.trying import TOLERANCE, make_checkpoint
from ...tiny_models import reference_log_probs
from .emulated import needs_compiler

pytestmark = [needs_compiler, pytest.mark.slow]

TRACED = (
    *("bloom", "dbrx", "falcon_h1", "falcon_mamba", "gptj", "jamba", "mamba", "mamba2", "minimax"),
    *("mpt", "olmo_hybrid", "persimmon", "zamba2"),
)
"""Slopes, means, norms of parts of rows, rotation by pairs, scans of all kinds."""


@pytest.mark.parametrize("model_type", TRACED)
def test_log_probabilities_are_those_of_the_reference(model_type: str, gpu: Path, tmp_path: Path) -> None:
    make_checkpoint(model_type, tmp_path / "model")
    artifact = compile_model(
        tmp_path / "model", tmp_path / "gpu.ingot", targets=["cuda:sm_90"], frontend="export"
    )
    token_ids = np.random.default_rng(5).integers(2, 300, 37).tolist()
    with Engine(artifact.path, max_num_batched_tokens=16, kv_memory="4MiB") as engine:
        found = engine.score(token_ids)
    assert np.abs(found - reference_log_probs(tmp_path / "model", token_ids)).max() <= TOLERANCE
