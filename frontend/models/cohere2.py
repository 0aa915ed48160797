"""Command R7B and A (Cohere, 2024 and 2025): Command R's form, and ropes in layers with a window alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..configs import DecoderConfig, Fields, typed_windows
from .cohere import read_cohere
from .decoder import build_decoder
from .family import Family

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    fields = Fields(config)
    pattern = fields.integer("sliding_window_pattern", 4)
    windows = typed_windows(fields, default=4096, is_sliding=lambda layer: (layer + 1) % pattern != 0)
    decoder = read_cohere(fields, "cohere2", windows)
    ropes = zip(decoder.ropes, windows, strict=True)
    return replace(decoder, ropes=tuple(rope if window else None for rope, window in ropes))


FAMILY = Family(_from_hf, build_decoder)
