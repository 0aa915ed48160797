"""GGUF files of tiny models, written by the ``gguf`` package, against ``transformers`` on the checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingot.frontend import load_model

from ..gguf_files import GGUF_ARCHITECTURES, write_gguf
from ..tiny_models import make_tiny, reference_log_probs
from .test_exactness import TOKEN_IDS, log_probs

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")


# What files cannot say: it is the same for all models of the architecture.
OF_FILES: dict[str, dict[str, Any]] = {
    "gemma": {"tie_word_embeddings": True},
    "gemma2": {"tie_word_embeddings": True, "query_pre_attn_scalar": 10},
    "gemma3_text": {"query_pre_attn_scalar": 10},
    "gpt_oss": {"swiglu_limit": 7.0},
    "phimoe": {"router_jitter_noise": 0.01},
    "qwen3_moe": {"norm_topk_prob": True},
    "smollm3": {"no_rope_layer_interval": 4},
}


@pytest.fixture(scope="session")
def tiny_parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def check(folder: Path, path: Path, **options: Any) -> None:
    expected = reference_log_probs(folder, TOKEN_IDS)
    found = log_probs(load_model(write_gguf(folder, path, **options)), TOKEN_IDS)
    assert expected.std() > 0.5, "logits are flat: the comparison would say nothing"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


SOME = ("llama", "gemma3_text", "gpt_oss")
"""Architectures that show most of what differs; the others are compared in the slow run."""


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=[] if name in SOME else pytest.mark.slow) for name in GGUF_ARCHITECTURES],
)
def test_architecture(tiny_parent: Path, tmp_path: Path, architecture: str) -> None:
    check(make_tiny(architecture, tiny_parent, **OF_FILES.get(architecture, {})), tmp_path / "tiny.gguf")
