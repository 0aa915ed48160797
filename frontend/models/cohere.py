"""Command R (Cohere, 2024): attention and feed-forward side by side behind a layer norm without a bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..configs import BlockForm, DecoderConfig, Fields, NormForm, read_decoder
from .decoder import build_decoder
from .family import Family

__all__ = ["FAMILY", "read_cohere"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    theta = Fields(config).number("rope_theta", 500_000.0)
    fields = Fields({**config, "rope_theta": theta})
    if fields.flag("use_qk_norm", False):
        raise fields.refuse("use_qk_norm is not supported: norms of heads with a weight for each are not")
    return read_cohere(fields, "cohere", (0,) * fields.integer("num_hidden_layers"))


def read_cohere(fields: Fields, model_type: str, windows: tuple[int, ...]) -> DecoderConfig:
    """A decoder of this form; raises :class:`ConfigError` as :func:`read_decoder`."""
    attention_bias = fields.flag("attention_bias", False)
    decoder = read_decoder(
        fields,
        model_type=model_type,
        default_max_position_embeddings=8192,
        default_tie=True,
        norm_epsilon=("layer_norm_eps", 1e-5),
        windows=windows,
        qkv_bias=attention_bias,
        output_bias=attention_bias,
    )
    return replace(
        decoder,
        block=BlockForm.PARALLEL,
        norm=NormForm.LAYER_UNBIASED,
        rope_interleaved=True,
        logit_divisor=1 / fields.number("logit_scale", 0.0625),
    )


FAMILY = Family(_from_hf, build_decoder)
