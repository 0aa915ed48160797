"""ERNIE 4.5 (Baidu, 2025), its dense models: Llama's form, neighbours of a head turned together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..configs import DecoderConfig, Fields, read_decoder
from .decoder import build_decoder
from .family import Family

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    theta = Fields(config).number("rope_theta", 500_000.0)
    fields = Fields({**config, "rope_theta": theta})
    bias = fields.flag("use_bias", False)
    decoder = read_decoder(
        fields,
        model_type="ernie4_5",
        default_max_position_embeddings=131_072,
        default_num_kv_heads=2,
        default_head_dim=128,
        default_tie=True,
        norm_epsilon=("rms_norm_eps", 1e-5),
        windows=(0,) * fields.integer("num_hidden_layers"),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=bias,
    )
    return replace(decoder, rope_interleaved=True)


FAMILY = Family(_from_hf, build_decoder)
