"""Multi-head latent attention: pages of latents, attention over them, the heads' own matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ....ir import Operation, ScalarType
from ....targets.launch_plan import Argument, Bound, Size
from ...kernels.layout import num_blocks
from ..planning import PIECE, Planning, Rule, row_type, size_of
from .batch import MAKE_BATCH, batch_arguments
from .cache import element_of
from .products import Tiles, multiply
from .rowwise import THREADS

__all__ = ["RULES"]

_WARPS = 8
"""Heads that share what a block brings into shared memory."""

_TILE_BYTES = 20 << 10
"""Of latents in shared memory, at most."""

_FEW_TOKENS = 32
"""Tokens up to which contexts are cut into pieces, so that there is work for the whole device."""


def _head_linear(planning: Planning, operation: Operation) -> None:
    x, weight = operation.operands
    heads, outputs = (int(dim) for dim in weight.type.shape[:2])
    num_rows = ("int num_rows", Argument("symbol", str(x.type.shape[0])))

    def tiles_of(rows_at_once: int, bound: Bound | None) -> Tiles:
        kind = f"RowsOfHead<{heads}, {num_blocks(outputs)}>"
        setup = f"{kind} tile{{here.block_y() * {rows_at_once}, num_rows, here.block_z()}}; "
        grid = (size_of(x.type.shape[0], over=rows_at_once), size_of(heads))
        return Tiles(setup, (num_rows,), grid)

    multiply(planning, operation, (), tiles_of)


def _append_latents(planning: Planning, operation: Operation) -> None:
    cache, latents, slots = operation.operands
    stored, element = element_of(planning, cache)
    dtype = "uint16" if cache.type.scalar is ScalarType.BFLOAT16 else cache.type.scalar.value
    planning.states[cache] = planning.keep_state(cache.name, cache.type.shape, dtype)
    planning.states[operation.result] = planning.states[cache]
    region = planning.region(latents)
    body = f"append_latents<{THREADS}, {row_type(region.view)}, {element}>(here, latents, x, slots);"
    arguments = [
        (f"GLOBAL {stored}* latents", planning.states[cache]),
        ("GLOBAL const float* x", region.array),
        ("GLOBAL const int* slots", planning.plain[slots]),
    ]
    planning.launch("append_latents", body, arguments, (size_of(region.rows),), THREADS)


def _paged_latent_attention(planning: Planning, operation: Operation) -> None:
    q, cache, *described = operation.operands
    stored, element = element_of(planning, cache)
    (heads, dim), page_size = map(int, q.type.shape[1:]), int(cache.type.shape[2])
    value_dim, region = cast(int, operation.attributes["value_dim"]), planning.region(q)
    out = planning.result(operation.result, region.rows, heads * value_dim)
    batch = [
        *batch_arguments(planning, described),
        ("int num_rows", Argument("symbol", str(region.rows))),
    ]
    shape = f"AttentionShape<{heads}, 1, {dim}, {value_dim}, {page_size}, 0, false, false>"
    scale = float(cast(float, operation.attributes["scale"]))
    setup = f"{MAKE_BATCH}Scores scores{{{scale!r}f, 0.0f, nullptr, nullptr}}; "
    keys = _keys_at_once(dim * (4 if stored == "float" else 2))
    words = keys * dim * (4 if stored == "float" else 2) // 16
    shared = f"SHARED_ARRAY(uint4, words, [{words}]); SHARED_ARRAY(float, weights, [{_WARPS}][{keys}]); "

    def attend(name: str, piece: int, out: Argument, few_or_many: Bound) -> None:
        template = f"{shape}, {element}, {row_type(region.view)}, {_WARPS}, {keys}, {piece}, {words}"
        body = (
            f"{setup}{shared}attend_latents<{template}>"
            "(here, words, weights, q, latents, batch, scores, out, num_rows);"
        )
        arguments = [
            ("GLOBAL const float* q", region.array),
            (f"GLOBAL const {stored}* latents", planning.states[cache]),
            *batch,
            ("GLOBAL float* out", out),
        ]
        pieces = Size(1, ("pieces",)) if piece else Size()
        grid = (size_of(region.rows), size_of(-(-heads // _WARPS)), pieces)
        planning.launch(name, body, arguments, grid, 32 * _WARPS, (few_or_many,))

    few = Bound(str(region.rows), at_most=_FEW_TOKENS)
    piece_sums = planning.new_array(Size(heads * (value_dim + 2) * _FEW_TOKENS, ("pieces",)), 4)
    attend("attend_latent_pieces", PIECE, piece_sums, few)
    planning.launch(
        "join_pieces",
        f"{setup}join_pieces<{shape}, 64, {PIECE}>(here, piece_sums, batch, scores, out, num_rows);",
        [("GLOBAL const float* piece_sums", piece_sums), *batch, ("GLOBAL float* out", out.array)],
        (size_of(region.rows), size_of(heads)),
        64,
        (few,),
    )
    attend("attend_latents", 0, out.array, Bound(str(region.rows), at_least=_FEW_TOKENS + 1))


def _keys_at_once(bytes_per_key: int) -> int:
    """A power of two, so that pages are of whole tiles."""
    return next((keys for keys in (16, 8) if keys * bytes_per_key <= _TILE_BYTES), 4)


RULES: Mapping[str, Rule] = {
    "append_latents": _append_latents,
    "head_linear": _head_linear,
    "paged_latent_attention": _paged_latent_attention,
}
"""By operator."""
