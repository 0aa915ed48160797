"""Latent attention on tensor cores."""

from __future__ import annotations

from collections.abc import Mapping

from ...ir import Operation
from ..gpu.planning import Planning, Rule
from ..gpu.rules.latent import LatentAttention, attend_latents

__all__ = ["RULES"]

_LINES, _WARPS, _KEYS = 16, 4, 16
"""``LatentTile`` in ``sources/tensor_latent.cuh``."""

_SHARED_BYTES = 48 << 10
"""Of a block's memory that kernels declare."""


def _paged_latent_attention(planning: Planning, operation: Operation) -> None:
    """For rows of half width, of whole sixteen bytes, and so short that two tiles of them fit."""
    attention = LatentAttention.of(planning, operation)
    stride, partial = -(-attention.dim // 16) * 8 + 4, (_WARPS, _LINES, _KEYS + 8)
    num_bytes = 4 * (2 * _KEYS * stride + partial[0] * partial[1] * partial[2])
    element = attention.pages.element
    if element not in ("Float16", "BFloat16") or attention.dim % 8 or num_bytes > _SHARED_BYTES:
        attend_latents(planning, attention)
        return
    shared = (
        f"SHARED_ARRAY(uint4, tiles, [2][{_KEYS * stride // 4}]); "
        f"SHARED_ARRAY(float, partial, [{partial[0]}][{partial[1]}][{partial[2]}]); "
    )

    def body_of(piece: int) -> str:
        return (
            f"{shared}attend_latent_tiles<{attention.shape}, {element}, {attention.view}, {piece}>"
            "(here, tiles, partial, q, latents, batch, scores, out, num_rows);"
        )

    attention.launch(planning, "attend_latent_tiles", body_of, _LINES, 32 * _WARPS)


RULES: Mapping[str, Rule] = {"paged_latent_attention": _paged_latent_attention}
"""By operator."""
