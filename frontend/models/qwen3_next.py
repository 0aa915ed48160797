"""Qwen3-Next (Qwen Team, 2025): gated delta networks, gated attention in some layers, and experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from ..configs import (
    DecoderConfig,
    Fields,
    GatedDeltaConfig,
    MixtureConfig,
    NormForm,
    read_decoder,
    sparse_layers,
)
from .decoder import DecoderNames, build_decoder
from .family import Family
from .mixture import MixtureNames

__all__ = ["FAMILY", "QWEN3_NEXT_NAMES", "read_delta_decoder", "read_gated_mixture"]

QWEN3_NEXT_NAMES = DecoderNames(recurrent="linear_attn", mixture=MixtureNames(shared="mlp.shared_expert"))
_RECURRENT, _ATTENTION = "linear_attention", "full_attention"


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    fields = Fields(config)
    mixture = read_gated_mixture(fields, default_experts=512, default_chosen=10)
    return read_delta_decoder(
        fields,
        model_type="qwen3_next",
        default_num_kv_heads=2,
        mixtures=tuple(mixture if sparse else None for sparse in sparse_layers(fields)),
        is_joined=True,
    )


def read_gated_mixture(fields: Fields, *, default_experts: int, default_chosen: int) -> MixtureConfig | None:
    """The mixture of each layer that has one, with a gated expert for all tokens; None for no experts."""
    experts = fields.integer("num_experts", default_experts, least=0)
    if not experts:
        return None
    return MixtureConfig(
        num_experts=experts,
        experts_per_token=fields.integer("num_experts_per_tok", default_chosen),
        intermediate_size=fields.integer("moe_intermediate_size", 512),
        normalize=fields.flag("norm_topk_prob", True),
        shared_size=fields.integer("shared_expert_intermediate_size", 512),
        shared_gate=True,
    ).check(fields)


def read_delta_decoder(
    fields: Fields,
    *,
    model_type: str,
    default_num_kv_heads: int,
    mixtures: tuple[MixtureConfig | None, ...],
    is_joined: bool,
) -> DecoderConfig:
    """A decoder of this form; ``is_joined`` is that of :class:`GatedDeltaConfig`.

    Raises:
        ConfigError: as :func:`read_decoder`, and for layers or activations that are not supported.
    """
    if (activation := fields.text("hidden_act", "silu")) != "silu":
        raise fields.refuse(f"hidden_act '{activation}' is not supported; supported is silu")
    layers, bias = _layers(fields), fields.flag("attention_bias", False)
    decoder = read_decoder(
        fields,
        model_type=model_type,
        default_max_position_embeddings=32_768,
        default_num_kv_heads=default_num_kv_heads,
        default_head_dim=256,
        default_rotary_factor=0.25,
        windows=(0,) * len(layers),
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
        mixtures=mixtures,
    )
    delta = _delta(fields, decoder.norm_epsilon, is_joined)
    return replace(
        decoder,
        norm=NormForm.RMS_ABOUT_ONE,
        attention_gate=True,
        recurrent=tuple(delta if kind == _RECURRENT else None for kind in layers),
    )


def _delta(fields: Fields, norm_epsilon: float, is_joined: bool) -> GatedDeltaConfig:
    heads, groups = fields.integer("linear_num_value_heads", 32), fields.integer("linear_num_key_heads", 16)
    if heads % groups:
        raise fields.refuse(f"linear_num_key_heads {groups} does not divide linear_num_value_heads {heads}")
    return GatedDeltaConfig(
        heads=heads,
        groups=groups,
        key_dim=fields.integer("linear_key_head_dim", 128),
        value_dim=fields.integer("linear_value_head_dim", 128),
        taps=fields.integer("linear_conv_kernel_dim", 4, least=2),
        norm_epsilon=norm_epsilon,
        is_joined=is_joined,
    )


def _layers(fields: Fields) -> tuple[str, ...]:
    """Each layer's kind: every ``full_attention_interval``-th is attention, unless ``layer_types`` says."""
    count = fields.integer("num_hidden_layers")
    interval = fields.integer("full_attention_interval", 4)
    types = fields.texts("layer_types") or tuple(
        _RECURRENT if (layer + 1) % interval else _ATTENTION for layer in range(count)
    )
    if len(types) != count:
        raise fields.refuse(f"'layer_types' names {len(types)} layers where num_hidden_layers is {count}")
    if unknown := sorted(set(types) - {_RECURRENT, _ATTENTION}):
        raise fields.refuse(
            f"layer type '{unknown[0]}' is not supported; supported are {_RECURRENT}, {_ATTENTION}"
        )
    return types


FAMILY = Family(_from_hf, partial(build_decoder, names=QWEN3_NEXT_NAMES), left_out=("mtp.",))
