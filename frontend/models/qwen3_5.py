"""Qwen3.5 (Qwen Team, 2026), its text model: Qwen3-Next's form, projections apart and no experts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ..configs import DecoderConfig, Fields
from .decoder import build_decoder
from .family import Family
from .qwen3_next import QWEN3_NEXT_NAMES, read_delta_decoder

__all__ = ["FAMILY"]


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    return read_delta_decoder(
        Fields(config), model_type="qwen3_5_text", default_num_kv_heads=4, mixtures=(), is_joined=False
    )


FAMILY = Family(_from_hf, partial(build_decoder, names=QWEN3_NEXT_NAMES), left_out=("mtp.",))
