"""How the configurations of Qwen3-Next and Qwen3.5 read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ingot.frontend import DecoderConfig
from ingot.frontend.configs import GatedDeltaConfig
from ingot.frontend.registry import find_family
from ingot.ir.errors import ConfigError

SMALL: dict[str, Any] = {
    "vocab_size": 31,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
}


def read(architecture: str = "Qwen3NextForCausalLM", **fields: Any) -> DecoderConfig:
    config = {"architectures": [architecture], **SMALL, **fields}
    return find_family(config).from_hf(config)


def test_what_config_json_leaves_out() -> None:
    config = read()
    delta = GatedDeltaConfig(
        heads=32, groups=16, key_dim=128, value_dim=128, taps=4, norm_epsilon=1e-6, is_joined=True
    )
    assert config.recurrent == (delta, delta, delta, None, delta)
    assert (config.head_dim, config.rotary_dim, config.num_kv_heads) == (256, 64, 2)
    assert config.attention_gate
    assert [mixture is not None and mixture.num_experts for mixture in config.mixtures] == [512] * 5


def test_layers_with_attention_and_with_experts() -> None:
    config = read(full_attention_interval=2, decoder_sparse_step=2, mlp_only_layers=[3])
    assert [recurrence is None for recurrence in config.recurrent] == [False, True, False, True, False]
    with_experts = [mixture is not None for mixture in config.mixtures]
    assert with_experts == [False, True, False, False, False]
    assert set(read(num_experts=0).mixtures) == {None}


def test_qwen3_5_keeps_projections_apart() -> None:
    for architecture in ("Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM"):
        (delta, *_) = read(architecture).recurrent
        assert isinstance(delta, GatedDeltaConfig)
        assert not delta.is_joined


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"layer_types": ["conv"] * 5}, "layer type 'conv' is not supported"),
        ({"layer_types": ["full_attention"]}, "names 1 layers where num_hidden_layers is 5"),
        ({"linear_num_key_heads": 3}, "linear_num_key_heads 3 does not divide linear_num_value_heads 32"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"linear_conv_kernel_dim": 1}, "'linear_conv_kernel_dim' must be a whole number of at least 2"),
    ],
)
def test_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read(**fields)
