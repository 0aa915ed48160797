"""What models that give vectors have: attention over whole sequences, pooling (``sources/vectors.h``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ....ir import Operation
from ....targets.launch_plan import Argument
from ..planning import Planning, Rule, row_type, size_of
from .rowwise import BLOCK_PARTS, THREADS

__all__ = ["RULES"]

_WARPS, _MOST_SLICE = 4, 64
"""Warps of attention's block, and columns of keys or values that it has in shared memory at a time."""

_MOST_QUERY_BYTES = 16 << 10


def _ragged_attention(planning: Planning, operation: Operation) -> None:
    q, k, v, starts = operation.operands
    heads, dim = (int(size) for size in q.type.shape[1:])
    kv_heads, regions = int(k.type.shape[1]), [planning.region(value) for value in (q, k, v)]
    slice_width = min(-(-dim // 8) * 8, _MOST_SLICE)
    padded = -(-dim // slice_width) * slice_width
    queries = 16
    while queries > _WARPS and queries * padded * 4 > _MOST_QUERY_BYTES:
        queries //= 2
    out = planning.result(operation.result, regions[0].rows, heads * dim)
    window, causal = cast(int, operation.attributes["window"]), str(operation.attributes["causal"]).lower()
    shape = f"RaggedShape<{heads}, {kv_heads}, {dim}, {window}, {causal}, {queries}, {slice_width}>"
    views = ", ".join(row_type(region.view) for region in regions)
    scale = float(cast(float, operation.attributes["scale"]))
    body = (
        f"SHARED_ARRAY(float4, queries, [{queries}][{padded // 4}]); "
        f"SHARED_ARRAY(float4, slice_rows, [{32 * (slice_width // 4 + 1)}]); "
        f"SHARED_ARRAY(float, weights, [{queries}][32]); "
        f"attend_whole<{_WARPS}, {shape}, {views}>(here, queries, slice_rows, weights, q, k, v, "
        f"sequence_starts, num_sequences, {scale!r}f, out);"
    )
    arguments = [
        *((f"GLOBAL const float* {name}", region.array) for name, region in zip("qkv", regions, strict=True)),
        ("GLOBAL const int* sequence_starts", planning.plain[starts]),
        ("int num_sequences", Argument("symbol", "sequences")),
        ("GLOBAL float* out", out.array),
    ]
    tiles = size_of(regions[0].rows, over=queries, plus=("sequences",))
    planning.launch("attend_whole", body, arguments, (tiles, size_of(heads)), 32 * _WARPS)


def _pool(planning: Planning, operation: Operation) -> None:
    rows, starts, _ = operation.operands
    region, kind = planning.region(rows), operation.attributes["kind"]
    out = planning.result(operation.result, operation.result.type.shape[0], region.view.width)
    flags = ", ".join(str(kind == name).lower() for name in ("last", "max", "mean"))
    body = f"pool<{THREADS}, {row_type(region.view)}, {flags}>(here, x, sequence_starts, out);"
    arguments = [
        ("GLOBAL const float* x", region.array),
        ("GLOBAL const int* sequence_starts", planning.plain[starts]),
        ("GLOBAL float* out", out.array),
    ]
    grid = (size_of(out.rows), size_of(-(-region.view.width // THREADS)))
    planning.launch("pool", body, arguments, grid, THREADS)


def _l2_normalize(planning: Planning, operation: Operation) -> None:
    x = planning.region(operation.operands[0])
    out = planning.result(operation.result, x.rows, x.view.width)
    epsilon = float(cast(float, operation.attributes["epsilon"]))
    body = f"{BLOCK_PARTS} l2_normalize<{THREADS}, {row_type(x.view)}>(here, parts, x, out, {epsilon!r}f);"
    arguments = [("GLOBAL const float* x", x.array), ("GLOBAL float* out", out.array)]
    planning.launch("l2_normalize", body, arguments, (size_of(x.rows),), THREADS)


RULES: Mapping[str, Rule] = {
    "l2_normalize": _l2_normalize,
    "pool": _pool,
    "ragged_attention": _ragged_attention,
}
"""By operator."""
