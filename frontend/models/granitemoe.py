"""Granite-MoE (IBM, 2024): Granite's multipliers, and mixtures of experts that are stored together.

So it is with an expert for every token beside them, where the configuration has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from ..configs import DecoderConfig, Fields, MixtureConfig, read_decoder
from .decoder import DecoderNames, build_decoder
from .family import Family
from .mixture import MixtureNames

__all__ = ["FAMILY", "GRANITE_MIXTURE_NAMES", "read_granite_mixture"]

GRANITE_MIXTURE_NAMES = MixtureNames(
    router="block_sparse_moe.router.layer",
    gate_up="block_sparse_moe.input_linear.weight",
    down="block_sparse_moe.output_linear.weight",
    joined_shared=("shared_mlp.input_linear", "shared_mlp.output_linear"),
)


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    fields = Fields(config)
    attention_bias, num_layers = fields.flag("attention_bias", False), fields.integer("num_hidden_layers")
    shared = fields.integer("shared_intermediate_size", 0, least=0)
    decoder = read_decoder(
        fields,
        model_type="granitemoeshared" if shared else "granitemoe",
        default_max_position_embeddings=2048,
        windows=(0,) * num_layers,
        qkv_bias=attention_bias,
        output_bias=attention_bias,
        mixtures=(read_granite_mixture(fields, shared),) * num_layers,
    )
    return replace(
        decoder,
        attention_scale=fields.number("attention_multiplier", 1.0),
        embedding_multiplier=fields.number("embedding_multiplier", 1.0),
        residual_multiplier=fields.number("residual_multiplier", 1.0),
        logit_divisor=fields.number("logits_scaling", 1.0),
    )


def read_granite_mixture(fields: Fields, shared_size: int) -> MixtureConfig:
    """The mixture of each layer, beside an expert of ``shared_size`` for every token; 0 is none."""
    return MixtureConfig(
        num_experts=fields.integer("num_local_experts", 8),
        experts_per_token=fields.integer("num_experts_per_tok", 2),
        intermediate_size=fields.integer("intermediate_size"),
        scores="softmax_of_chosen",
        normalize=False,
        shared_size=shared_size,
    ).check(fields)


FAMILY = Family(_from_hf, partial(build_decoder, names=DecoderNames(mixture=GRANITE_MIXTURE_NAMES)))
