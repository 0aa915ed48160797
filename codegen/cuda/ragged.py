"""Attention within whole sequences on tensor cores."""

from __future__ import annotations

from collections.abc import Mapping

from ...ir import Operation, ScalarType
from ..gpu.planning import Planning, Rule
from ..gpu.rules.vectors import RaggedAttention, attend_whole

__all__ = ["RULES"]

_WARPS, _MOST_DIM = 4, 128
"""Warps of a block, each of which takes 16 tokens, and columns of heads that fit into registers."""


def _ragged_attention(planning: Planning, operation: Operation) -> None:
    """Factors are split into two halves of bfloat16, which is as exact as weights of half width ask for."""
    attention = RaggedAttention.of(planning, operation)
    if attention.dim > _MOST_DIM or not _has_half_weights(planning):
        attend_whole(planning, attention)
        return
    keys = 64 if attention.dim <= 64 else 32
    row = -(-attention.dim // 16) * 2 + 1
    body = (
        f"SHARED_ARRAY(uint4, key_rows, [2][{keys}][{row}]); "
        f"SHARED_ARRAY(uint4, value_rows, [2][{keys}][{row}]); "
        f"attend_whole_tiles<{_WARPS}, {keys}, {attention.shape(16 * _WARPS, attention.dim)}, "
        f"{attention.views}>(here, key_rows, value_rows, {attention.call}"
    )
    attention.launch(planning, "attend_whole_tiles", body, 16 * _WARPS, 32 * _WARPS)


def _has_half_weights(planning: Planning) -> bool:
    """Whether matrices are of less than float32."""
    matrices = (value for value in planning.graph.parameters if value.type.rank == 2)
    return any(value.type.element not in (ScalarType.FLOAT32, ScalarType.INT32) for value in matrices)


RULES: Mapping[str, Rule] = {"ragged_attention": _ragged_attention}
"""By operator."""
