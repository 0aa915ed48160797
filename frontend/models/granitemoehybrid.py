"""Granite 4 (IBM, 2025): Granite's multipliers over layers of Mamba-2 and a few of attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from ..configs import DecoderConfig, Fields, Mamba2Config, read_decoder
from .decoder import DecoderNames, build_decoder
from .family import Family
from .granitemoe import GRANITE_MIXTURE_NAMES, read_granite_mixture

__all__ = ["FAMILY"]

_NAMES = DecoderNames(
    recurrent="mamba",
    joined_gate_up="shared_mlp.input_linear",
    down="shared_mlp.output_linear",
    mixture=GRANITE_MIXTURE_NAMES,
)
_RECURRENT, _ATTENTION = ("linear_attention", "mamba"), ("full_attention", "attention")


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    fields = Fields(config)
    layers, shared = _layers(fields), fields.integer("shared_intermediate_size", 1024)
    has_experts = fields.integer("num_local_experts", 8, least=0) > 0
    attention_bias = fields.flag("attention_bias", False)
    decoder = read_decoder(
        Fields({**config, "intermediate_size": shared}),
        model_type="granitemoehybrid",
        default_max_position_embeddings=2048,
        windows=(0,) * len(layers),
        qkv_bias=attention_bias,
        output_bias=attention_bias,
        mixtures=(read_granite_mixture(fields, shared),) * len(layers) if has_experts else (),
    )
    kind = fields.text("position_embedding_type", "")
    if kind not in ("", "rope", "nope"):
        raise fields.refuse(f"position_embedding_type '{kind}' is not supported; supported are rope, nope")
    mamba = _mamba(fields, decoder)
    return replace(
        decoder,
        ropes=decoder.ropes if kind == "rope" else (None,) * len(layers),
        recurrent=tuple(mamba if layer in _RECURRENT else None for layer in layers),
        attention_scale=fields.number("attention_multiplier", 1.0),
        embedding_multiplier=fields.number("embedding_multiplier", 1.0),
        residual_multiplier=fields.number("residual_multiplier", 1.0),
        logit_divisor=fields.number("logits_scaling", 1.0),
    )


def _layers(fields: Fields) -> tuple[str, ...]:
    count = fields.integer("num_hidden_layers")
    types = fields.texts("layer_types") or fields.texts("layers_block_type") or (_RECURRENT[0],) * count
    if len(types) != count:
        raise fields.refuse(f"'layer_types' names {len(types)} layers where num_hidden_layers is {count}")
    if unknown := sorted(set(types) - {*_RECURRENT, *_ATTENTION}):
        supported = ", ".join((*_RECURRENT, *_ATTENTION))
        raise fields.refuse(f"layer type '{unknown[0]}' is not supported; supported are {supported}")
    return types


def _mamba(fields: Fields, decoder: DecoderConfig) -> Mamba2Config:
    heads = fields.integer("mamba_n_heads", 128)
    inner = fields.integer("mamba_expand", 2) * decoder.hidden_size
    written = fields.values.get("mamba_d_head")
    head_dim = inner // heads if written in (None, "auto") else fields.integer("mamba_d_head")
    if heads * head_dim != inner:
        raise fields.refuse(
            f"mamba_n_heads {heads} of mamba_d_head {head_dim} are not mamba_expand * hidden_size, {inner}"
        )
    if (groups := fields.integer("mamba_n_groups", 1)) != 1:
        raise fields.refuse(f"mamba_n_groups {groups} is not supported; supported is 1")
    limit = fields.values.get("time_step_limit")
    if limit not in (None, [0, math.inf], [0, {"__float__": "Infinity"}]):
        raise fields.refuse(f"time_step_limit {limit} is not supported: steps are not limited")
    return Mamba2Config(
        heads=heads,
        head_dim=head_dim,
        state=fields.integer("mamba_d_state", 256),
        taps=fields.integer("mamba_d_conv", 4, least=2),
        convolution_bias=fields.flag("mamba_conv_bias", True),
        projection_bias=fields.flag("mamba_proj_bias", False),
        norm_epsilon=decoder.norm_epsilon,
    )


FAMILY = Family(_from_hf, partial(build_decoder, names=_NAMES))
