"""Multi-head latent attention, from the fields that DeepSeek's models have for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .fields import Fields

__all__ = ["LatentConfig", "read_latent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentConfig:
    """Attention whose keys and values are made of a token's latents (DeepSeek-AI, 2024).

    Attributes:
        query_rank: elements of what queries are made of in turn, ``None`` where they are made of the state.
        rank: latents of a token.
        own_dim: elements of queries and keys that each head has of its own.
        shared_dim: those that follow them, turned by the rotary embedding; keys have them in common.
        value_dim: elements of a head's value.
        scale: what scores are multiplied by.
        bias: whether the projections from the state, and the one back, have biases.
    """

    query_rank: int | None
    rank: int
    own_dim: int
    shared_dim: int
    value_dim: int
    scale: float
    bias: bool


def read_latent(fields: Fields) -> LatentConfig:
    """What ``fields`` say of the attention.

    Raises:
        ConfigError: a field is malformed, or keys and values are fewer than the heads.
    """
    heads = fields.integer("num_attention_heads")
    if (kv_heads := fields.optional_integer("num_key_value_heads", heads) or heads) != heads:
        raise fields.refuse(f"num_key_value_heads {kv_heads} must be num_attention_heads {heads}")
    own_dim, shared_dim = fields.integer("qk_nope_head_dim", 128), fields.integer("qk_rope_head_dim", 64)
    if shared_dim % 2:
        raise fields.refuse(f"qk_rope_head_dim must be even for rotary embeddings, not {shared_dim}")
    return LatentConfig(
        query_rank=fields.optional_integer("q_lora_rank", 1536),
        rank=fields.integer("kv_lora_rank", 512),
        own_dim=own_dim,
        shared_dim=shared_dim,
        value_dim=fields.integer("v_head_dim", 128),
        scale=(own_dim + shared_dim) ** -0.5 * _stretched(fields) ** 2,
        bias=fields.flag("attention_bias", False),
    )


def _stretched(fields: Fields) -> float:
    """What queries and keys are multiplied by for longer sequences, beside their rotary embedding."""
    parameters = fields.object("rope_scaling") or fields.object("rope_parameters")
    if parameters is None or parameters.text("rope_type", parameters.text("type", "default")) == "default":
        return 1.0
    weight = parameters.values.get("mscale_all_dim") or 0  # 0 counts as not given
    if not weight or (factor := parameters.number("factor")) <= 1:
        return 1.0
    return 0.1 * parameters.number("mscale_all_dim") * math.log(factor) + 1.0
