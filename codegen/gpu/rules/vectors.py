"""What models that give vectors have: attention over whole sequences, pooling (``sources/vectors.h``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from ....ir import Operation
from ....targets.launch_plan import Argument
from ..planning import Planning, Rule, row_type, size_of
from .rowwise import BLOCK_PARTS, THREADS

__all__ = ["RULES", "RaggedAttention", "attend_whole"]

_WARPS, _MOST_SLICE = 4, 64
"""Warps of attention's block, and columns of keys or values that it has in shared memory at a time."""

_MOST_QUERY_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class RaggedAttention:
    """Attention within whole sequences.

    Attributes:
        arguments: of a kernel, ``q``, ``k``, ``v``, ``sequence_starts``, ``num_sequences`` and ``out``.
        rows: the symbol of how many tokens there are.
        views: of queries, keys and values, as templates take them.
        heads: of queries.
        kv_heads: of keys and values.
        dim: of all.
        window: see the operator.
        causal: see the operator.
        scale: see the operator.
    """

    arguments: tuple[tuple[str, Argument], ...]
    rows: int | str
    views: str
    heads: int
    kv_heads: int
    dim: int
    window: int
    causal: bool
    scale: float

    @classmethod
    def of(cls, planning: Planning, operation: Operation) -> RaggedAttention:
        """Of an operation, whose result gets its array."""
        q, k, v, starts = operation.operands
        heads, dim = (int(size) for size in q.type.shape[1:])
        regions = [planning.region(value) for value in (q, k, v)]
        out = planning.result(operation.result, regions[0].rows, heads * dim)
        arguments = (
            *(
                (f"GLOBAL const float* {name}", region.array)
                for name, region in zip("qkv", regions, strict=True)
            ),
            ("GLOBAL const int* sequence_starts", planning.plain[starts]),
            ("int num_sequences", Argument("symbol", "sequences")),
            ("GLOBAL float* out", out.array),
        )
        return cls(
            arguments,
            regions[0].rows,
            ", ".join(row_type(region.view) for region in regions),
            heads,
            int(k.type.shape[1]),
            dim,
            cast(int, operation.attributes["window"]),
            cast(bool, operation.attributes["causal"]),
            float(cast(float, operation.attributes["scale"])),
        )

    def shape(self, queries: int, slice_width: int) -> str:
        """``RaggedShape`` of the templates."""
        causal = str(self.causal).lower()
        return (
            f"RaggedShape<{self.heads}, {self.kv_heads}, {self.dim}, {self.window}, {causal}, {queries}, "
            f"{slice_width}>"
        )

    @property
    def call(self) -> str:
        """What templates are given, after ``here`` and what the block shares."""
        return f"q, k, v, sequence_starts, num_sequences, {self.scale!r}f, out);"

    def launch(self, planning: Planning, name: str, body: str, queries: int, threads: int) -> None:
        """Launch a kernel, a block of which takes a head of so many queries of one sequence."""
        tiles = size_of(self.rows, over=queries, plus=("sequences",))
        planning.launch(name, body, self.arguments, (tiles, size_of(self.heads)), threads)


def attend_whole(planning: Planning, attention: RaggedAttention) -> None:
    """In float32, on any machine."""
    slice_width = min(-(-attention.dim // 8) * 8, _MOST_SLICE)
    padded = -(-attention.dim // slice_width) * slice_width
    queries = 16
    while queries > _WARPS and queries * padded * 4 > _MOST_QUERY_BYTES:
        queries //= 2
    body = (
        f"SHARED_ARRAY(float4, queries, [{queries}][{padded // 4}]); "
        f"SHARED_ARRAY(float4, slice_rows, [{32 * (slice_width // 4 + 1)}]); "
        f"SHARED_ARRAY(float, weights, [{queries}][32]); "
        f"attend_whole<{_WARPS}, {attention.shape(queries, slice_width)}, {attention.views}>"
        f"(here, queries, slice_rows, weights, {attention.call}"
    )
    attention.launch(planning, "attend_whole", body, queries, 32 * _WARPS)


def _ragged_attention(planning: Planning, operation: Operation) -> None:
    attend_whole(planning, RaggedAttention.of(planning, operation))


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
