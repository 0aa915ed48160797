"""DeepSeek-V3 and R1 (DeepSeek-AI, 2024): V2's form, with experts chosen by sigmoids and a learnt bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..configs import DecoderConfig, Fields, MixtureConfig, late_mixtures, read_decoder, read_latent
from .decoder import build_decoder
from .family import Family

__all__ = ["FAMILY", "read_deepseek_v3", "read_noaux_mixture"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    return read_deepseek_v3(Fields(config), model_type="deepseek_v3")


def read_deepseek_v3(fields: Fields, *, model_type: str, has_experts: bool = True) -> DecoderConfig:
    """A decoder of this form; raises :class:`ConfigError` as :func:`read_decoder`."""
    num_layers = fields.integer("num_hidden_layers")
    latent = read_latent(fields)
    decoder = read_decoder(
        Fields({**fields.values, "head_dim": latent.shared_dim}),
        model_type=model_type,
        default_max_position_embeddings=4096,
        default_num_kv_heads=128,
        windows=(0,) * num_layers,
        mixtures=late_mixtures(fields, read_noaux_mixture(fields), default_dense=3) if has_experts else (),
    )
    return replace(
        decoder,
        latent=latent,
        rope_interleaved=fields.flag("rope_interleave", True),
        num_draft_layers=fields.integer("num_nextn_predict_layers", 0, least=0),
    )


def read_noaux_mixture(fields: Fields) -> MixtureConfig:
    """Experts chosen by sigmoids and a learnt bias, in place of an auxiliary loss in training."""
    for name, only in (("scoring_func", "sigmoid"), ("topk_method", "noaux_tc")):
        if (value := fields.text(name, only)) != only:
            raise fields.refuse(f"{name} '{value}' is not supported; supported is {only}")
    size = fields.integer("moe_intermediate_size", 2048)
    return MixtureConfig(
        num_experts=fields.integer("n_routed_experts", 256),
        experts_per_token=fields.integer("num_experts_per_tok", 8),
        intermediate_size=size,
        scores="sigmoid",
        groups=fields.integer("n_group", 8),
        kept_groups=fields.integer("topk_group", 4),
        group_terms=2,
        normalize=fields.flag("norm_topk_prob", True),
        scale=fields.number("routed_scaling_factor", 2.5),
        correction_bias=True,
        shared_size=size * fields.integer("n_shared_experts", 1),
    ).check(fields)


FAMILY = Family(_from_hf, build_decoder)
