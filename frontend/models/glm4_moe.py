"""GLM-4.5 and 4.6 (Zhipu AI, 2025): Llama's form, heads turned in part, and DeepSeek-V3's router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..configs import DecoderConfig, Fields, MixtureConfig, late_mixtures, read_decoder
from .decoder import build_decoder
from .family import Family

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    fields = Fields(config)
    wide = fields.integer("moe_intermediate_size", 1408)
    mixture = MixtureConfig(
        num_experts=fields.integer("n_routed_experts", 128),
        experts_per_token=fields.integer("num_experts_per_tok", 8),
        intermediate_size=wide,
        scores="sigmoid",
        groups=fields.integer("n_group", 1),
        kept_groups=fields.integer("topk_group", 1),
        group_terms=2,
        normalize=fields.flag("norm_topk_prob", True),
        scale=fields.number("routed_scaling_factor", 1.0),
        correction_bias=True,
        shared_size=wide * fields.integer("n_shared_experts", 1),
    ).check(fields)
    decoder = read_decoder(
        fields,
        model_type="glm4_moe",
        default_max_position_embeddings=131_072,
        default_num_kv_heads=8,
        default_rotary_factor=0.5,
        norm_epsilon=("rms_norm_eps", 1e-5),
        windows=(0,) * fields.integer("num_hidden_layers"),
        qkv_bias=fields.flag("attention_bias", False),
        qk_norm=fields.flag("use_qk_norm", False),
        mixtures=late_mixtures(fields, mixture, default_dense=1),
    )
    return replace(decoder, num_draft_layers=fields.integer("num_nextn_predict_layers", 0, least=0))


FAMILY = Family(_from_hf, build_decoder)
