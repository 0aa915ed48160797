"""Seed-OSS (ByteDance, 2025): Llama's form with biases of queries, keys and values."""

from __future__ import annotations

from collections.abc import Mapping

from ..configs import DecoderConfig, Fields, read_decoder
from .decoder import build_decoder
from .family import Family

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    fields = Fields(config)
    return read_decoder(
        fields,
        model_type="seed_oss",
        default_max_position_embeddings=524_288,
        default_num_kv_heads=8,
        default_head_dim=128,
        windows=(0,) * fields.integer("num_hidden_layers"),
        qkv_bias=fields.flag("attention_bias", True),
        output_bias=fields.flag("attention_out_bias", False),
        mlp_bias=fields.flag("mlp_bias", False),
    )


FAMILY = Family(_from_hf, build_decoder)
