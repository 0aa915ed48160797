"""Attention on matrices of simdgroups, cut so that it fits threadgroup memory."""

from __future__ import annotations

from dataclasses import dataclass

from ...targets.launch_plan import Argument, Bound, Size
from ..gpu.planning import PIECE, Planning, size_of
from ..gpu.rules.attention import Attention
from ..gpu.rules.cache import read_pages
from .limits import MAX_SHARED_BYTES

__all__ = ["AttentionTile", "attend", "find_tile"]

_SIDE, _WARPS = 8, 4

_FEW_TOKENS = 32
"""Tokens up to which contexts are cut into pieces, so that there is work for the whole device."""


@dataclass(frozen=True, slots=True)
class AttentionTile:
    """``AttentionTile`` of sources/attention.metal: lines and keys at a time, and what it shares."""

    lines: int
    keys: int
    dim: int
    value_dim: int

    @property
    def arrays(self) -> str:
        """Declarations of what the threadgroup shares, as the kernel is given it."""
        return (
            f"SHARED_ARRAY(float, queries, [{self._query_floats}]); "
            f"SHARED_ARRAY(float, cache, [{self._cache_floats}]); "
            f"SHARED_ARRAY(float, weights, [{self._score_floats}]); "
            f"SHARED_ARRAY(float, kept, [{self.lines}][{_SIDE}]); "
            f"SHARED_ARRAY(float, ends, [{self.lines}][2]); "
        )

    @property
    def num_bytes(self) -> int:
        """Of all that."""
        floats = self._query_floats + self._cache_floats + self._score_floats
        return 4 * (floats + self.lines * (_SIDE + 2))

    @property
    def _query_floats(self) -> int:
        return self.lines * (_whole(self.dim) + 4)

    @property
    def _score_floats(self) -> int:
        return self.lines * (self.keys + 4)

    @property
    def _cache_floats(self) -> int:
        return max(
            self.keys * (_whole(self.dim) + 4),
            _whole(self.value_dim) * (self.keys + 4),
            self.lines * (_whole(self.value_dim) + 4),
        )


def _whole(dim: int) -> int:
    return -(-dim // _SIDE) * _SIDE


def find_tile(dim: int, value_dim: int, most_lines: int) -> AttentionTile | None:
    """The tile of most lines, up to ``most_lines``, that fits; none where heads are too wide."""
    for lines in (32, 16, 8):
        for keys in (32, 16):
            tile = AttentionTile(lines, keys, dim, value_dim)
            if lines <= max(most_lines, _SIDE) and tile.num_bytes <= MAX_SHARED_BYTES:
                return tile
    return None


def attend(planning: Planning, attention: Attention) -> bool:
    """Launch kernels of tiles: over whole contexts for many tokens, over pieces that are joined for few."""
    group = attention.heads // attention.kv_heads
    few_tile = find_tile(attention.dim, attention.value_dim, group)
    many_tile = find_tile(attention.dim, attention.value_dim, 32)
    if few_tile is None or many_tile is None or attention.page_size % 4:
        return False
    rows = attention.rows
    few, many = (Bound(rows, at_most=_FEW_TOKENS),), (Bound(rows, at_least=_FEW_TOKENS + 1),)
    num_rows = ("int num_rows", Argument("symbol", rows))
    pieces = planning.new_array(
        Size(attention.heads * (attention.value_dim + 2) * _FEW_TOKENS, ("pieces",)), 4
    )

    def grid_of(tile: AttentionTile) -> tuple[Size, Size]:
        at_once = min(group, tile.lines)
        return (
            size_of(rows, over=tile.lines // at_once, plus=("sequences",)),
            size_of(attention.kv_heads * -(-group // at_once)),
        )

    planning.launch(
        "attend_pieces",
        _body(attention, few_tile, PIECE, "nullptr, piece_sums"),
        [*attention.before, ("GLOBAL float* piece_sums", pieces), num_rows],
        (*grid_of(few_tile), Size(1, ("pieces",))),
        32 * _WARPS,
        few,
    )
    planning.launch(
        "join_pieces",
        f"{attention.setup}join_pieces<{attention.shape}, 64, {PIECE}>"
        "(here, piece_sums, batch, scores, out, num_rows);",
        [("GLOBAL const float* piece_sums", pieces), *attention.before, attention.out, num_rows],
        (size_of(rows), size_of(attention.heads)),
        64,
        few,
    )
    planning.launch(
        "attend_tiles",
        _body(attention, many_tile, 0, "out, nullptr"),
        [*attention.before, attention.out, num_rows],
        grid_of(many_tile),
        32 * _WARPS,
        many,
    )
    return True


def _body(attention: Attention, tile: AttentionTile, piece: int, results: str) -> str:
    kind = f"AttentionTile<{attention.shape}, {tile.lines}, {tile.keys}>"
    caches = attention.keys, attention.values
    readers = ", ".join(cache.reader for cache in caches)
    return (
        f"{attention.setup}{read_pages(*caches)}{tile.arrays}"
        f"attend_tiles<{kind}, {attention.shape}, {readers}, {attention.view}, {piece}>(here, queries, "
        f"cache, weights, kept, ends, q, cached_keys, cached_values, batch, scores, {results}, num_rows);"
    )
