"""Contexts of several pieces: the same bits whether all cores compute them piece by piece, or each a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ..compiled import compile_tiny
from .stepping import chunks_of, executing, in_steps

LENGTHS = (700, 300)
SEQUENCES = [np.random.default_rng(seed).integers(0, 300, n).tolist() for seed, n in enumerate(LENGTHS)]
ARTIFACTS: dict[str, dict[str, Any]] = {
    "pages of bfloat16": {"architecture": "llama", "kv_cache": "bfloat16", "head_dim": 32},
    "a window": {"architecture": "mistral", "sliding_window": 301},
    "pages of int4": {"architecture": "qwen3", "kv_cache": "int4", "head_dim": 64},
}


@pytest.mark.parametrize(
    "name", ["pages of bfloat16", *(pytest.param(n, marks=pytest.mark.slow) for n in list(ARTIFACTS)[1:])]
)
def test_pieces_on_all_cores(name: str, parent: Path) -> None:
    together: list[Mapping[int, int]] = [{0: 64}, {0: 300, 1: 100}, {0: 1, 1: 190}, *[{0: 1, 1: 1}] * 10]
    left = {0: 700 - 64 - 300 - 11, 1: 0}
    together += [{0: min(33, left[0] - start)} for start in range(0, left[0], 33)]
    path = compile_tiny(parent=parent, max_position_embeddings=1024, **ARTIFACTS[name])
    with executing(path) as executor:
        alone = [in_steps(executor, [tokens], chunks_of(len(tokens), 512))[0] for tokens in SEQUENCES]
        for logits, expected in zip(in_steps(executor, SEQUENCES, together), alone, strict=True):
            np.testing.assert_array_equal(logits, expected)
