"""DeepSeek-V2 (DeepSeek-AI, 2024): latent attention, and mixtures of experts after the first layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..configs import DecoderConfig, Fields, MixtureConfig, late_mixtures, read_decoder, read_latent
from .decoder import build_decoder
from .family import Family

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    fields = Fields(config)
    mixtures = late_mixtures(fields, _mixture(fields), default_dense=0)
    mlp_bias = fields.flag("mlp_bias", False)
    if mlp_bias and any(mixtures):
        raise fields.refuse("mlp_bias is not supported where there are experts")
    latent = read_latent(fields)
    decoder = read_decoder(
        Fields({**config, "head_dim": latent.shared_dim}),
        model_type="deepseek_v2",
        default_max_position_embeddings=2048,
        windows=(0,) * fields.integer("num_hidden_layers"),
        mlp_bias=mlp_bias,
        mixtures=mixtures,
    )
    return replace(decoder, latent=latent, rope_interleaved=True)


def _mixture(fields: Fields) -> MixtureConfig:
    if fields.flag("norm_topk_prob", False):
        raise fields.refuse("norm_topk_prob is not supported: the weights of experts are never normalized")
    if (scores := fields.text("scoring_func", "softmax")) != "softmax":
        raise fields.refuse(f"scoring_func '{scores}' is not supported; supported is softmax")
    size = fields.integer("moe_intermediate_size", 1407)
    mixture = MixtureConfig(
        num_experts=fields.integer("n_routed_experts", 64),
        experts_per_token=fields.integer("num_experts_per_tok"),
        intermediate_size=size,
        normalize=False,
        scale=fields.number("routed_scaling_factor", 1.0),
        shared_size=size * fields.integer("n_shared_experts", 2),
    )
    match fields.text("topk_method", "greedy"):
        case "greedy":
            return mixture.check(fields)
        case "group_limited_greedy":
            groups, kept = fields.integer("n_group"), fields.integer("topk_group")
            return replace(mixture, groups=groups, kept_groups=kept).check(fields)
        case method:
            raise fields.refuse(
                f"topk_method '{method}' is not supported; supported are greedy, group_limited_greedy"
            )


FAMILY = Family(_from_hf, build_decoder)
