"""What lasts from step to step, pages of keys and values, and attention over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from ....ir import Operation, ScalarType, Value
from ....ir.errors import CompileError
from ....targets.launch_plan import Argument, Bound, Size
from ..planning import PIECE, Planning, Rule, row_type, size_of
from .rowwise import THREADS

__all__ = ["RULES"]

_ELEMENTS = {
    ScalarType.FLOAT32: ("float", "Float32"),
    ScalarType.FLOAT16: ("unsigned short", "Float16"),
    ScalarType.BFLOAT16: ("unsigned short", "BFloat16"),
}
_FEW_ROWS = 32
"""Rows up to which contexts are cut into pieces, so that there is work for the whole device."""

_LINES = 16


def _element_of(cache: Value) -> tuple[str, str]:
    element = cache.type.element
    if not isinstance(element, ScalarType) or element not in _ELEMENTS:
        raise CompileError(
            f"%{cache.name}: a cache of {element} has no kernel on CUDA; those of float32, float16 and "
            "bfloat16 have (--kv-cache)"
        )
    return _ELEMENTS[element]


def _append_kv(planning: Planning, operation: Operation) -> None:
    keys, values, k, v, slots = operation.operands
    stored, element = _element_of(keys)
    pages, kv_heads, page_size, dim = keys.type.shape
    value_dim = values.type.shape[3]
    for cache, shape in (
        (keys, (pages, kv_heads, page_size, dim)),
        (values, (pages, kv_heads, value_dim, page_size)),
    ):
        dtype = "uint16" if cache.type.scalar is ScalarType.BFLOAT16 else cache.type.scalar.value
        planning.states[cache] = planning.keep_state(cache.name, shape, dtype)
    for result, cache in zip(operation.results, (keys, values), strict=True):
        planning.states[result] = planning.states[cache]
    regions = [planning.region(value) for value in (k, v)]
    views = ", ".join(row_type(region.view) for region in regions)
    body = (
        f"append<{THREADS}, {views}, {element}, {kv_heads}, {dim}, {value_dim}, {page_size}>"
        "(keys, values, k, v, slots);"
    )
    arguments = [
        (f"{stored}* keys", planning.states[keys]),
        (f"{stored}* values", planning.states[values]),
        ("const float* k", regions[0].array),
        ("const float* v", regions[1].array),
        ("const int* slots", planning.plain[slots]),
    ]
    planning.launch("append", body, arguments, (size_of(regions[0].rows),), THREADS)


def _paged_attention(planning: Planning, operation: Operation) -> None:
    q, keys, values, starts, lengths, table, *sinks = operation.operands
    stored, element = _element_of(keys)
    _, heads, dim = q.type.shape
    _, kv_heads, page_size, _ = keys.type.shape
    value_dim = int(values.type.shape[3])
    slopes = cast("npt.NDArray[np.float32] | None", operation.attributes.get("slopes"))
    window, region = cast(int, operation.attributes["window"]), planning.region(q)
    flags = f"{str(bool(sinks)).lower()}, {str(slopes is not None).lower()}"
    shape = f"AttentionShape<{heads}, {kv_heads}, {dim}, {value_dim}, {page_size}, {window}, {flags}>"
    view, rows = row_type(region.view), str(region.rows)
    out = planning.result(operation.result, region.rows, int(heads) * value_dim)
    before = [("const float* q", region.array)]
    cache = [
        (f"const {stored}* keys", planning.states[keys]),
        (f"const {stored}* values", planning.states[values]),
    ]
    batch = [
        ("const int* sequence_starts", planning.plain[starts]),
        ("const int* context_lengths", planning.plain[lengths]),
        ("const int* page_table", planning.plain[table]),
        ("int num_sequences", Argument("symbol", "sequences")),
        ("int table_width", Argument("symbol", "pages_per_sequence")),
        *(("const float* sinks", planning.parameter(value)) for value in sinks),
    ]
    scale, soft_cap = (float(cast(float, operation.attributes[key])) for key in ("scale", "soft_cap"))
    setup = "Batch batch{sequence_starts, context_lengths, page_table, num_sequences, table_width}; "
    if slopes is not None:
        numbers = ", ".join(f"{float(slope)!r}f" for slope in slopes)
        setup += f"const float slopes[] = {{{numbers}}}; "
    setup += (
        f"Scores scores{{{scale!r}f, {soft_cap!r}f, {'slopes' if slopes is not None else 'nullptr'}, "
        f"{'sinks' if sinks else 'nullptr'}}}; "
    )
    after = [("float* out", out.array)]
    num_rows = ("int num_rows", Argument("symbol", rows))
    if element == "Float32" or int(dim) % 2 or int(page_size) % 16:
        body = f"{setup}attend<{shape}, {element}, {view}>(q, keys, values, batch, scores, out);"
        grid = (size_of(rows), size_of(int(heads)))
        planning.launch("attend", body, [*before, *cache, *batch, *after], grid, 32)
        return

    group = int(heads) // int(kv_heads)
    at_once = min(group, _LINES)
    parts = -(-group // at_once)
    tiles = size_of(rows, over=_LINES // at_once, plus=("sequences",))
    warps = 4 if value_dim <= 128 else 2
    pieces = planning.new_array(Size(int(heads) * (value_dim + 2) * _FEW_ROWS, ("pieces",)), 4)
    piece_sums = ("float* piece_sums", pieces)
    body = (
        f"{setup}attend_tiles<{shape}, {element}, {view}, {warps}, {PIECE}>"
        "(q, keys, values, batch, scores, nullptr, piece_sums, num_rows);"
    )
    few, many = (Bound(rows, at_most=_FEW_ROWS),), (Bound(rows, at_least=_FEW_ROWS + 1),)
    heads_at_once = size_of(int(kv_heads) * parts)
    planning.launch(
        "attend_pieces",
        body,
        [*before, *cache, *batch, piece_sums, num_rows],
        (tiles, heads_at_once, Size(1, ("pieces",))),
        32 * warps,
        few,
    )
    body = f"{setup}join_pieces<{shape}, 64, {PIECE}>(piece_sums, batch, scores, out, num_rows);"
    planning.launch(
        "join_pieces",
        body,
        [("const float* piece_sums", pieces), *batch, *after, num_rows],
        (size_of(rows), size_of(int(heads))),
        64,
        few,
    )
    body = (
        f"{setup}attend_tiles<{shape}, {element}, {view}, {warps}, 0>"
        "(q, keys, values, batch, scores, out, nullptr, num_rows);"
    )
    planning.launch(
        "attend_tiles",
        body,
        [*before, *cache, *batch, *after, num_rows],
        (tiles, heads_at_once),
        32 * warps,
        many,
    )


RULES: Mapping[str, Rule] = {"append_kv": _append_kv, "paged_attention": _paged_attention}
"""By operator."""
