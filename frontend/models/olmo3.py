"""OLMo 3 (Ai2, 2025): OLMo 2's form with windows in most layers, whose ropes are not stretched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..configs import BlockForm, DecoderConfig, Fields, read_decoder, read_layer_ropes, typed_windows
from .decoder import build_decoder
from .family import Family

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    theta = Fields(config).number("rope_theta", 500_000.0)
    fields = Fields({**config, "rope_theta": theta, "rope_local_base_freq": theta})
    attention_bias, maximum = (
        fields.flag("attention_bias", False),
        fields.integer("max_position_embeddings", 2048),
    )
    windows = typed_windows(fields, default=4096, is_sliding=lambda layer: (layer + 1) % 4 != 0)
    decoder = read_decoder(
        fields,
        model_type="olmo3",
        default_max_position_embeddings=maximum,
        norm_epsilon=("rms_norm_eps", 1e-5),
        windows=windows,
        ropes=read_layer_ropes(fields, maximum, [window > 0 for window in windows]),
        qkv_bias=attention_bias,
        output_bias=attention_bias,
        qk_norm=True,
    )
    return replace(decoder, block=BlockForm.AFTER, qk_norm_of_all=True)


FAMILY = Family(_from_hf, build_decoder)
