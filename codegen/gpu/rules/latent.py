"""Multi-head latent attention: pages of latents, attention over them, the heads' own matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from ....ir import Operation
from ....targets.launch_plan import Argument, Bound, Size
from ...kernels.layout import num_blocks
from ...kernels.rows import Rows
from ..planning import PIECE, Planning, Rule, row_type, size_of
from .batch import MAKE_BATCH, batch_arguments
from .cache import Pages, cache_arguments, keep_pages, pages_of, read_pages
from .products import Tiles, multiply
from .rowwise import THREADS

__all__ = ["RULES", "LatentAttention", "attend_latents"]

_WARPS = 8
"""Heads that share what a block brings into shared memory."""

_TILE_BYTES = 20 << 10
"""Of latents in shared memory, at most."""

_Range: TypeAlias = "tuple[int, int | None]"

_PIECES: tuple[tuple[int, _Range, _Range], ...] = (
    (PIECE // 4, (0, 4), (0, 8)),
    (PIECE, (0, 4), (9, 127)),
    (PIECE, (5, 32), (0, 127)),
    (PIECE * 4, (0, 32), (128, None)),
    (0, (33, None), (0, None)),
)
"""Keys of a piece, for how many tokens, and for contexts of how many times :data:`PIECE`.

Pieces are so small that the whole device has work, and no smaller, as each writes a result that is joined."""


def _head_linear(planning: Planning, operation: Operation) -> None:
    x, weight = operation.operands
    heads, outputs, inputs = (int(dim) for dim in weight.type.shape)
    num_rows = ("int num_rows", Argument("symbol", str(x.type.shape[0])))

    def tiles_of(rows_at_once: int, bound: Bound) -> Tiles:
        kind = f"RowsOfHead<{heads}, {num_blocks(outputs)}>"
        setup = f"{kind} tile{{here.block_y() * {rows_at_once}, num_rows, here.block_z()}}; "
        grid = (size_of(x.type.shape[0], over=rows_at_once), size_of(heads))
        return Tiles(setup, (num_rows,), grid)

    view = None
    if x not in planning.rounded:  # of the first head
        whole = planning.region(x).view
        view = Rows(inputs, whole.stride, whole.offset)
    multiply(planning, operation, (), tiles_of, view=view, few=planning.machine.few_rows, heads=heads)


def _append_latents(planning: Planning, operation: Operation) -> None:
    cache, latents, slots = operation.operands
    pages, region = keep_pages(planning, cache, operation.result, "latents"), planning.region(latents)
    view = row_type(region.view)
    if pages.element:
        body = f"append_latents<{THREADS}, {view}, {pages.element}>(here, latents, x, slots);"
    else:
        given = ", ".join(pages.parameters)
        body = f"append_codes<{THREADS}, {view}, 1, {pages.type}>(here, {given}, x, slots[here.block_x()]);"
    arguments = [
        *cache_arguments(planning, cache, pages, constant=""),
        ("GLOBAL const float* x", region.array),
        ("GLOBAL const int* slots", planning.plain[slots]),
    ]
    planning.launch("append_latents", body, arguments, (size_of(region.rows),), THREADS)


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Attention over latents; kernels call queries ``q``, the cache ``latents``, and results ``out``.

    Attributes:
        arguments: of a kernel, but ``out``.
        out: where results go.
        shape: ``AttentionShape`` of the templates.
        pages: of the cache.
        view: of the queries, as templates take them.
        scale: of scores.
        rows: the symbol of how many tokens there are.
        heads: of queries.
        dim: of latents.
        value_dim: of values.
    """

    arguments: tuple[tuple[str, Argument], ...]
    out: Argument
    shape: str
    pages: Pages
    view: str
    scale: float
    rows: str
    heads: int
    dim: int
    value_dim: int

    @classmethod
    def of(cls, planning: Planning, operation: Operation) -> LatentAttention:
        """What an operation asks for."""
        q, cache, *described = operation.operands
        pages = pages_of(cache.type, "latents")
        (heads, dim), page_size = map(int, q.type.shape[1:]), int(cache.type.shape[2])
        value_dim, region = cast(int, operation.attributes["value_dim"]), planning.region(q)
        return cls(
            arguments=(
                ("GLOBAL const float* q", region.array),
                *cache_arguments(planning, cache, pages),
                *batch_arguments(planning, described),
                ("int num_rows", Argument("symbol", str(region.rows))),
            ),
            out=planning.result(operation.result, region.rows, heads * value_dim).array,
            shape=f"AttentionShape<{heads}, 1, {dim}, {value_dim}, {page_size}, 0, false, false>",
            pages=pages,
            view=row_type(region.view),
            scale=float(cast(float, operation.attributes["scale"])),
            rows=str(region.rows),
            heads=heads,
            dim=dim,
            value_dim=value_dim,
        )

    @property
    def setup(self) -> str:
        """Statements that make ``batch`` and ``scores``."""
        return f"{MAKE_BATCH}Scores scores{{{self.scale!r}f, 0.0f, nullptr, nullptr}}; "

    def launch(
        self, planning: Planning, name: str, body_of: Callable[[int], str], heads_at_once: int, threads: int
    ) -> None:
        """Launch a kernel that takes heads of a token and a piece of the context, and what joins pieces.

        ``body_of`` a piece's size is what comes behind the setup; 0 is for whole contexts.
        """
        most = max((tokens or 0) * PIECE // piece for piece, (_, tokens), _ in _PIECES if piece)
        piece_sums = planning.new_array(Size(self.heads * (self.value_dim + 2) * most, ("pieces",)), 4)
        heads = size_of(-(-self.heads // heads_at_once))
        for piece, tokens, pieces in _PIECES:
            bounds = Bound(self.rows, *tokens), Bound("pieces", *pieces)
            planning.launch(
                f"{name}_pieces" if piece else name,
                self.setup + body_of(piece),
                (*self.arguments, ("GLOBAL float* out", piece_sums if piece else self.out)),
                (size_of(self.rows), heads, _num_pieces(piece)),
                threads,
                bounds,
            )
            if piece:
                joining = (("GLOBAL const float* piece_sums", piece_sums), ("GLOBAL float* out", self.out))
                planning.launch(
                    "join_pieces",
                    f"{self.setup}join_pieces<{self.shape}, 64, {piece}>"
                    "(here, piece_sums, batch, scores, out, num_rows);",
                    (*joining, *self.arguments[1 + len(self.pages.parameters) :]),
                    (size_of(self.rows), size_of(self.heads)),
                    64,
                    bounds,
                )


def _num_pieces(piece: int) -> Size:
    """Into how many the longest context of a batch is cut."""
    if not piece:
        return Size()
    return Size(max(PIECE // piece, 1), ("pieces",), max(piece // PIECE, 1))


def attend_latents(planning: Planning, attention: LatentAttention) -> None:
    """Attention in float32, on any machine."""
    key_bytes = attention.dim * (2 if attention.pages.element in ("Float16", "BFloat16") else 4)
    # A power of two, so that pages are of whole tiles.
    keys = next((keys for keys in (16, 8) if keys * key_bytes <= _TILE_BYTES), 4)
    words = keys * key_bytes // 16
    shared = f"SHARED_ARRAY(uint4, words, [{words}]); SHARED_ARRAY(float, weights, [{_WARPS}][{keys}]); "

    def body_of(piece: int) -> str:
        template = f"{attention.shape}, {attention.pages.reader}, {attention.view}, {_WARPS}, {keys}"
        return (
            f"{read_pages(attention.pages)}{shared}attend_latents<{template}, {piece}, {words}>"
            "(here, words, weights, q, cached_latents, batch, scores, out, num_rows);"
        )

    attention.launch(planning, "attend_latents", body_of, _WARPS, 32 * _WARPS)


def _paged_latent_attention(planning: Planning, operation: Operation) -> None:
    attend_latents(planning, LatentAttention.of(planning, operation))


RULES: Mapping[str, Rule] = {
    "append_latents": _append_latents,
    "head_linear": _head_linear,
    "paged_latent_attention": _paged_latent_attention,
}
"""By operator."""
