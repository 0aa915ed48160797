"""dots.llm1 (rednote, 2025): Qwen3's attention, and DeepSeek-V3's experts."""

from __future__ import annotations

from collections.abc import Mapping

from ..configs import DecoderConfig, Fields, late_mixtures, layered_windows, read_decoder
from .decoder import build_decoder
from .deepseek_v3 import read_noaux_mixture
from .family import Family

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    defaults: dict[str, object] = {
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        "use_sliding_window": True,
    }
    fields = Fields({**defaults, **config})
    attention_bias = fields.flag("attention_bias", False)
    return read_decoder(
        fields,
        model_type="dots1",
        default_max_position_embeddings=2048,
        default_num_kv_heads=32,
        windows=layered_windows(fields, default=4096, default_max_window_layers=62),
        qkv_bias=attention_bias,
        output_bias=attention_bias,
        qk_norm=True,
        mixtures=late_mixtures(fields, read_noaux_mixture(fields), default_dense=0),
    )


FAMILY = Family(_from_hf, build_decoder)
