"""Qwen3.5 with experts (Qwen Team, 2026), its text model: experts in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ..configs import DecoderConfig, Fields
from .decoder import build_decoder
from .family import Family
from .qwen3_next import QWEN3_NEXT_NAMES, read_delta_decoder, read_gated_mixture

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    # Every layer is a mixture, and chosen weights are always normed: fields that say otherwise go unread.
    fields = Fields({**config, "intermediate_size": 1, "norm_topk_prob": True})
    mixture = read_gated_mixture(fields, default_experts=256, default_chosen=8)
    return read_delta_decoder(
        fields,
        model_type="qwen3_5_moe_text",
        default_num_kv_heads=2,
        mixtures=(mixture,) * fields.integer("num_hidden_layers"),
        is_joined=False,
    )


FAMILY = Family(_from_hf, partial(build_decoder, names=QWEN3_NEXT_NAMES), left_out=("mtp.",))
