"""The plain graph in numpy against ``transformers``: log-probabilities of tiny random models within 1e-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ingot.frontend import Model, load_model
from ingot.ir.interpreter import evaluate

from ..tiny_models import ARCHITECTURES, make_tiny, reference_log_probs

pytest.importorskip("torch")
pytest.importorskip("transformers")

TOKEN_IDS = np.random.default_rng(5).integers(0, 307, 37).tolist()
PHI = {"rope_parameters": {"rope_theta": 300.0, "partial_rotary_factor": 0.5}}
PHIMOE = {
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 300.0,
        "original_max_position_embeddings": 64,
        "short_factor": [1.0, 1.1, 1.3, 1.2],
        "long_factor": [2.0, 5.0, 7.0, 3.0],
        "short_mscale": 1.2,
        "long_mscale": 1.2,
    }
}
"""Beyond the original maximum transformers takes the short factors still, where the authors have the long."""
ALTERNATING = ["full_attention", "sliding_attention"] * 2


@pytest.fixture(scope="session")
def tiny_parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def log_probs(model: Model, token_ids: list[int]) -> npt.NDArray[np.float64]:
    inputs = {
        "token_ids": np.array(token_ids, np.int32),
        "positions": np.arange(len(token_ids), dtype=np.int32),
    }
    (logits,) = evaluate(model.module.forward, inputs, parameter=model.weights.read)
    assert isinstance(logits, np.ndarray)
    assert logits.dtype == np.float32
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide


def check(folder: Path, *, stepwise: bool = False) -> npt.NDArray[np.float64]:
    expected = reference_log_probs(folder, TOKEN_IDS, stepwise=stepwise)
    found = log_probs(load_model(folder), TOKEN_IDS)
    assert expected.std() > 0.5, "logits are flat: the comparison would say nothing"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "options", [{}, {"tie_word_embeddings": True, "dtype": "bfloat16"}], ids=["plain", "tied, bfloat16"]
)
def test_architecture(tiny_parent: Path, architecture: str, options: dict[str, Any]) -> None:
    check(make_tiny(architecture, tiny_parent, **options))


@pytest.mark.parametrize(
    "options", [{"dtype": "float16"}, {"shard_size": "40KB"}], ids=["float16", "sharded"]
)
def test_files(tiny_parent: Path, options: dict[str, Any]) -> None:
    check(make_tiny("llama", tiny_parent, **options))


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", {"attention_bias": True}),
        ("llama", {"mlp_bias": True}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "dtype": "bfloat16"}),
        ("llama", {"num_key_value_heads": 6}),
        ("llama", {"num_key_value_heads": 1}),
        ("llama", {"head_dim": None}),
        ("qwen3", {"attention_bias": True}),
        ("qwen3", {"num_attention_heads": 5, "num_key_value_heads": 5}),
        ("llama", {"hidden_act": "gelu"}),
        ("gemma", {"attention_bias": True, "hidden_act": "silu"}),
        ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
        ("gemma2", {"attention_bias": True, "hidden_activation": "gelu"}),
        ("gemma3_text", {"final_logit_softcapping": 3.0, "attention_bias": True}),
        ("glm", {"attention_bias": False}),
        ("glm4", {"rope_parameters": {"rope_theta": 300.0, "partial_rotary_factor": 1.0}}),
        ("granite", {"attention_bias": True, "mlp_bias": True}),
        ("granitemoehybrid", {"num_local_experts": 5, "intermediate_size": 44}),
        ("phi", {"qk_layernorm": True, "head_dim": 8, **PHI}),
        ("phimoe", PHIMOE),
        ("phi3", {"rope_parameters": {"rope_theta": 300.0, "partial_rotary_factor": 0.8}}),
        ("smollm3", {"no_rope_layers": [0, 1, 1, 0], "attention_bias": True, "mlp_bias": True}),
        ("starcoder2", {"use_bias": False}),
        ("olmo2", {"num_key_value_heads": 6, "attention_bias": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_variant(tiny_parent: Path, architecture: str, options: dict[str, Any]) -> None:
    check(make_tiny(architecture, tiny_parent, **options))


@pytest.mark.parametrize(
    ("architecture", "options", "windows"),
    [
        ("mistral", {"sliding_window": 7}, (7, 7, 7, 7)),
        ("mistral", {"sliding_window": None}, (0, 0, 0, 0)),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 3}, (0, 0, 0, 5)),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 5, "max_window_layers": 0}, (0, 0, 0, 0)),
        (
            "qwen3",
            {"use_sliding_window": True, "sliding_window": 9, "layer_types": ALTERNATING},
            (0, 9, 0, 9),
        ),
        ("gemma2", {"sliding_window": 5}, (5, 0, 5, 0)),
        ("gemma3_text", {"sliding_window": 6, "layer_types": ALTERNATING[::-1]}, (6, 0, 6, 0)),
        ("phi3", {"sliding_window": 5}, (5, 5, 5, 5)),
        ("starcoder2", {"sliding_window": 5}, (5, 5, 5, 5)),
        ("smollm3", {"use_sliding_window": True, "sliding_window": 5}, (0, 0, 5, 0)),
    ],
)
def test_windows_shorter_than_the_sequence(
    tiny_parent: Path, architecture: str, options: dict[str, Any], windows: tuple[int, ...]
) -> None:
    folder = make_tiny(architecture, tiny_parent, **options)
    assert load_model(folder).config.windows == windows
    found = check(folder)
    if any(windows) and not architecture.startswith("gemma"):  # which cannot be made without
        unlimited = log_probs(
            load_model(make_tiny(architecture, tiny_parent, sliding_window=None)), TOKEN_IDS
        )
        assert np.abs(found - unlimited).max() > 1e-2


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 4.0},
        {**LLAMA3, "original_max_position_embeddings": 16},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "truncate": False},
        {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16, "attention_factor": 0.8},
    ],
    ids=lambda parameters: parameters["rope_type"],
)
def test_rope(tiny_parent: Path, parameters: dict[str, Any]) -> None:
    check(make_tiny("llama", tiny_parent, rope_parameters={"rope_theta": 300.0, **parameters}))


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_dynamic_rope_beyond_the_maximum_is_as_decoded_token_by_token(
    tiny_parent: Path, architecture: str
) -> None:
    parameters = {"rope_type": "dynamic", "rope_theta": 300.0, "factor": 3.0}
    folder = make_tiny(architecture, tiny_parent, max_position_embeddings=12, rope_parameters=parameters)
    found = check(folder, stepwise=True)
    model = load_model(folder)
    np.testing.assert_allclose(log_probs(model, TOKEN_IDS[:20]), found[:20], rtol=0, atol=1e-5)


def test_dynamic_rope_up_to_the_maximum_is_plain_rope(tiny_parent: Path) -> None:
    parameters = {"rope_type": "dynamic", "rope_theta": 300.0, "factor": 3.0}
    folder = make_tiny("llama", tiny_parent, max_position_embeddings=37, rope_parameters=parameters)
    plain = make_tiny("llama", tiny_parent, rope_parameters={"rope_type": "default", "rope_theta": 300.0})
    np.testing.assert_array_equal(
        log_probs(load_model(folder), TOKEN_IDS), log_probs(load_model(plain), TOKEN_IDS)
    )


@pytest.mark.parametrize("original", [64, 20], ids=["short", "long"])
@pytest.mark.parametrize("given", [{}, {"attention_factor": 1.7}, {"factor": 3.0}], ids=str)
def test_longrope(tiny_parent: Path, original: int, given: dict[str, float]) -> None:
    """The whole sequence is of one kind, by its length."""
    factors = {"short_factor": [1.0, 1.1, 1.3, 1.2, 1.5], "long_factor": [2.0, 5.0, 7.0, 3.0, 9.0]}
    parameters = {"rope_type": "longrope", "rope_theta": 300.0, **factors, **given}
    check(
        make_tiny(
            "phi3",
            tiny_parent,
            hidden_size=60,
            original_max_position_embeddings=original,
            rope_parameters=parameters,
        )
    )


def test_gemma3_stretches_only_layers_without_a_window(tiny_parent: Path) -> None:
    ropes = {
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 90.0},
    }
    check(make_tiny("gemma3_text", tiny_parent, rope_parameters=ropes))
