"""EXAONE 4 (LG AI Research, 2025): norms behind each part, and ropes in layers with a window alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..configs import BlockForm, DecoderConfig, Fields, read_decoder, typed_windows
from .decoder import build_decoder
from .family import Family

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    fields = Fields(config)
    windows = _windows(fields)
    decoder = read_decoder(
        fields,
        model_type="exaone4",
        default_max_position_embeddings=2048,
        default_num_kv_heads=32,
        norm_epsilon=("rms_norm_eps", 1e-5),
        windows=windows,
        qk_norm=True,
    )
    if any(windows):
        ropes = zip(decoder.ropes, windows, strict=True)
        decoder = replace(decoder, ropes=tuple(rope if window else None for rope, window in ropes))
    return replace(decoder, block=BlockForm.AFTER)


def _windows(fields: Fields) -> tuple[int, ...]:
    if fields.optional_integer("sliding_window", 4096) is None:
        return (0,) * fields.integer("num_hidden_layers")
    if fields.texts("layer_types") is not None:
        return typed_windows(fields, default=4096, is_sliding=lambda layer: False)
    pattern = fields.integer("sliding_window_pattern", 4)
    return typed_windows(fields, default=4096, is_sliding=lambda layer: (layer + 1) % pattern != 0)


FAMILY = Family(_from_hf, build_decoder)
