"""GGUF files of tiny models, written by the ``gguf`` package, against ``transformers`` on the checkpoints."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import ingot
import numpy as np
import pytest
from ingot.frontend import load_model

from ..gguf_files import GGUF_ARCHITECTURES, round_checkpoint, write_gguf
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


LONG = {"short_factor": [1.0, 1.1, 1.3, 1.7, 2.1], "long_factor": [2.0, 3.0, 4.0, 6.0, 9.0]}
LLAMA_3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"num_key_value_heads": 6, "tie_word_embeddings": True}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0}}),
        ("llama", {"rope_parameters": {**YARN, "rope_theta": 500.0}}),
        (
            "llama",
            {
                "rope_parameters": {
                    **LLAMA_3,
                    "rope_type": "llama3",
                    "rope_theta": 500.0,
                    "original_max_position_embeddings": 32,
                }
            },
        ),
        (
            "phi3",
            {
                "rope_parameters": {
                    **LONG,
                    "rope_type": "longrope",
                    "rope_theta": 500.0,
                    "original_max_position_embeddings": 64,
                },
                "original_max_position_embeddings": 64,
                "hidden_size": 60,
            },
        ),
        ("phi3", {"rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 0.6}}),
        ("deepseek_v2", {"q_lora_rank": None}),
        ("deepseek_v2", {"topk_method": "group_limited_greedy"}),
        (
            "deepseek_v2",
            {"rope_parameters": {**YARN, "rope_theta": 500.0, "mscale": 0.7, "mscale_all_dim": 0.7}},
        ),
        ("qwen3", {"attention_bias": True}),
        ("gpt_oss", {"swiglu_limit": 7.0, "num_experts_per_tok": 3}),
    ],
)
def test_settings(tiny_parent: Path, tmp_path: Path, architecture: str, options: dict[str, Any]) -> None:
    check(make_tiny(architecture, tiny_parent, **options), tmp_path / "tiny.gguf")


QUANTIZED_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4", "F16", "BF16")
SUPER_BLOCKS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")
WIDE = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 128,
}
"""Rows of whole super-blocks."""


def in_turn(name: str, shape: tuple[int, ...]) -> str:
    """Another type for each tensor of a layer, and all types between the layers."""
    kinds = (*QUANTIZED_TYPES, *SUPER_BLOCKS)
    return kinds[zlib.crc32(name.encode()) % len(kinds)]


def test_quantized_types(tiny_parent: Path, tmp_path: Path) -> None:
    folder = make_tiny("llama", tiny_parent, **WIDE)
    path = write_gguf(folder, tmp_path / "tiny.gguf", choose=in_turn)
    model = load_model(path)
    elements = {str(model.weights.types[name].element) for name in model.weights.names}
    assert len(elements) > 8, elements
    expected = reference_log_probs(round_checkpoint(folder, tmp_path / "rounded", in_turn), TOKEN_IDS)
    np.testing.assert_allclose(log_probs(model, TOKEN_IDS), expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*QUANTIZED_TYPES, *SUPER_BLOCKS, "in turn"])
def test_quantized_types_run_as_compiled(tiny_parent: Path, tmp_path: Path, kind: str) -> None:
    folder = make_tiny("llama", tiny_parent, **WIDE)
    choose = in_turn if kind == "in turn" else lambda name, shape: kind
    path = write_gguf(folder, tmp_path / "tiny.gguf", choose=choose)
    expected = log_probs(load_model(path), TOKEN_IDS)
    with ingot.Engine(ingot.compile(path, output=tmp_path / "tiny.ingot")) as engine:
        found = np.asarray(engine.score(TOKEN_IDS))
    divergence = (np.exp(expected) * (expected - found)).sum(axis=-1).mean()
    assert divergence < 0.01, "rows rounded to 8 bits make no more of a difference on random weights"
