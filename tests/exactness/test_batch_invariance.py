"""What a sequence computes does not depend, in a single bit, on what runs beside it or how it is cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.runtime.scheduling.step import Executor, LogitRows, SequenceChunk, Step

from ..compiled import WHOLE_GROUPS, WHOLE_GROUPS_OF_DELTA_RULES, WHOLE_GROUPS_OF_LATENTS, compile_tiny
from .stepping import Logits, chunks_of, executing, in_steps

LENGTHS = (90, 5, 64, 1, 33)
SEQUENCES = [np.random.default_rng(seed).integers(0, 300, n).tolist() for seed, n in enumerate(LENGTHS)]

ARTIFACTS: dict[str, dict[str, Any]] = {
    "float32": {"architecture": "llama"},
    "float32, window": {"architecture": "mistral", "sliding_window": 7},
    "float32, soft caps, windows": {"architecture": "gemma2", "tie_word_embeddings": True},
    "float32, layer norms, side by side": {"architecture": "phi"},
    "float32, norms of heads": {"architecture": "qwen3"},
    "float32, experts": {"architecture": "mixtral"},
    "float32, convolutions": {"architecture": "lfm2"},
    "float32, scans": {"architecture": "granitemoehybrid"},
    "float32, scans, large pages": {"architecture": "granitemoehybrid", "page_size": 128},
    "float32, latents": {"architecture": "deepseek_v3"},
    "int8, latents, float16 pages": {
        "architecture": "deepseek_v2",
        "quant": "int8",
        "dtype": "float16",
        **WHOLE_GROUPS,
        **WHOLE_GROUPS_OF_LATENTS,
    },
    "int8, delta rules": {
        "architecture": "qwen3_next",
        "quant": "int8",
        "num_experts": 0,
        **WHOLE_GROUPS,
        **WHOLE_GROUPS_OF_DELTA_RULES,
    },
    "bfloat16": {"architecture": "qwen2", "dtype": "bfloat16", "page_size": 64},
    "float16": {"architecture": "llama", "dtype": "float16", "num_key_value_heads": 1},
    "int8": {"architecture": "llama", "quant": "int8", **WHOLE_GROUPS},
    "int8, float16 pages": {"architecture": "qwen2", "quant": "int8", "dtype": "float16", **WHOLE_GROUPS},
    "int4": {"architecture": "qwen3", "quant": "int4", **WHOLE_GROUPS},
    "int4, experts": {
        "architecture": "qwen2_moe",
        "quant": "int4",
        **WHOLE_GROUPS,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 192,
    },
    "pages of bfloat16": {"architecture": "llama", "kv_cache": "bfloat16", "head_dim": 32},
    "pages of int8": {"architecture": "mistral", "sliding_window": 21, "kv_cache": "int8"},
    "pages of int4": {"architecture": "qwen3", "kv_cache": "int4", "head_dim": 64},
    "int4, float16 pages": {
        "architecture": "mistral",
        "quant": "int4",
        "dtype": "bfloat16",
        "sliding_window": 21,
        "page_size": 32,
        **WHOLE_GROUPS,
    },
    "int4, states": {
        "architecture": "granitemoehybrid",
        "quant": "int4",
        "dtype": "bfloat16",
        "shared_intermediate_size": 160,
        **WHOLE_GROUPS,
    },
}


SLOW = (
    "float32, soft caps, windows",
    "float32, latents",
    "float32, window",
    "float32, norms of heads",
    "float32, layer norms, side by side",
    "float32, convolutions",
    "float32, scans, large pages",
    "bfloat16",
    "float16",
    "int8, delta rules",
    "int8, float16 pages",
    "int8, latents, float16 pages",
    "int4, float16 pages",
    "int4, states",
)
"""Left out by default: others are like them, or their kernels' own tests compare bits, too. Random schedules
of each are in ``test_schedules.py``."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in ARTIFACTS],
)
def executor(request: pytest.FixtureRequest, parent: Path) -> Iterator[Executor]:
    with executing(compile_tiny(parent=parent, **ARTIFACTS[request.param])) as executor:
        yield executor


@pytest.fixture(scope="module")
def alone(executor: Executor) -> list[Logits]:
    """Logits of each sequence, run alone and whole."""
    found = [in_steps(executor, [s], [{0: len(s)}])[0] for s in SEQUENCES]
    assert all(np.isfinite(logits).all() and logits.std() > 0.5 for logits in found)
    return found


@pytest.mark.parametrize("size", [1, 7, 65])
def test_chunks(executor: Executor, alone: list[Logits], size: int) -> None:
    (logits,) = in_steps(executor, SEQUENCES[:1], chunks_of(LENGTHS[0], size))
    np.testing.assert_array_equal(logits, alone[0])


def test_a_batch_of_whole_sequences(executor: Executor, alone: list[Logits]) -> None:
    found = in_steps(executor, SEQUENCES, [dict(enumerate(LENGTHS))])
    for logits, expected in zip(found, alone, strict=True):
        np.testing.assert_array_equal(logits, expected)


def test_random_mixtures_of_prefill_and_decode(executor: Executor, alone: list[Logits]) -> None:
    random = np.random.default_rng(8)
    left = dict(enumerate(LENGTHS))
    steps: list[Mapping[int, int]] = []
    while left:
        chosen = [index for index in left if random.random() < 0.7] or [min(left)]
        random.shuffle(chosen)
        step = {index: min(left[index], int(random.choice([1, 1, 2, 5, 13]))) for index in chosen}
        left = {index: rest for index, n in left.items() if (rest := n - step.get(index, 0))}
        steps.append(step)
    found = in_steps(executor, SEQUENCES, steps)
    for logits, expected in zip(found, alone, strict=True):
        np.testing.assert_array_equal(logits, expected)


def test_logits_of_the_last_row_alone(executor: Executor, alone: list[Logits]) -> None:
    pages = tuple(range(-(-LENGTHS[0] // executor.page_size)))
    for kind, num_rows in ((LogitRows.LAST, 1), (LogitRows.NONE, 0)):
        chunk = SequenceChunk(0, tuple(SEQUENCES[0]), 0, pages, kind)
        logits = executor.run(Step((chunk,))).logits
        assert logits.shape == (num_rows, executor.vocab_size)
        np.testing.assert_array_equal(logits, alone[0][LENGTHS[0] - num_rows :])
