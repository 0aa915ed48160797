"""Youtu-LLM (Tencent, 2026): DeepSeek-V3's latent attention in a dense model."""

from __future__ import annotations

from collections.abc import Mapping

from ..configs import DecoderConfig, Fields
from .decoder import build_decoder
from .deepseek_v3 import read_deepseek_v3
from .family import Family

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    defaults: dict[str, object] = {
        "max_position_embeddings": 131_072,
        "num_key_value_heads": Fields(config).integer("num_attention_heads"),
        "tie_word_embeddings": True,
    }
    return read_deepseek_v3(Fields({**defaults, **config}), model_type="youtu", has_experts=False)


FAMILY = Family(_from_hf, build_decoder)
