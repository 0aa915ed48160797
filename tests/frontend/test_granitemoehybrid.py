"""How Granite 4's configurations read, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ingot.frontend import DecoderConfig
from ingot.frontend.configs import Mamba2Config, PlainRope
from ingot.frontend.registry import find_family
from ingot.ir.errors import ConfigError

SMALL: dict[str, Any] = {
    "architectures": ["GraniteMoeHybridForCausalLM"],
    "vocab_size": 31,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_local_experts": 0,
    "mamba_n_heads": 8,
}


def read(**fields: Any) -> DecoderConfig:
    config = {**SMALL, **fields}
    return find_family(config).from_hf(config)


def test_what_config_json_leaves_out() -> None:
    config = read()
    mamba = Mamba2Config(
        heads=8,
        head_dim=12,
        state=256,
        taps=4,
        convolution_bias=True,
        projection_bias=False,
        norm_epsilon=1e-6,
    )
    assert config.recurrent == (mamba, mamba, mamba)
    assert config.ropes == (None, None, None)
    assert config.intermediate_size == 1024
    assert config.attention_scale == config.residual_multiplier == config.logit_divisor == 1.0


def test_layers_in_both_spellings() -> None:
    (mamba, *_) = read().recurrent
    assert read(layer_types=["mamba", "attention", "mamba"]).recurrent == (mamba, None, mamba)
    types = ["linear_attention", "full_attention", "linear_attention"]
    assert read(layers_block_type=types).recurrent == (mamba, None, mamba)


def test_positions() -> None:
    assert read(position_embedding_type="nope").ropes == (None, None, None)
    assert read(position_embedding_type="rope", rope_theta=70.0).ropes == (PlainRope(70.0),) * 3


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"num_local_experts": 1}, "field 'intermediate_size' is missing"),
        ({"layer_types": ["mamba", "conv", "mamba"]}, "layer type 'conv' is not supported"),
        ({"layer_types": ["mamba"]}, "'layer_types' names 1 layers where num_hidden_layers is 3"),
        ({"mamba_n_groups": 2}, "mamba_n_groups 2 is not supported"),
        ({"mamba_d_head": 13}, "mamba_n_heads 8 of mamba_d_head 13 are not mamba_expand"),
        ({"mamba_d_conv": 1}, "'mamba_d_conv' must be a whole number of at least 2"),
        ({"time_step_limit": [0.001, math.inf]}, "time_step_limit .* is not supported"),
        ({"position_embedding_type": "alibi"}, "position_embedding_type 'alibi' is not supported"),
    ],
)
def test_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read(**fields)


def test_steps_without_a_limit() -> None:
    for limit in ([0.0, math.inf], [0.0, {"__float__": "Infinity"}], None):
        assert read(time_step_limit=limit).recurrent == read().recurrent
