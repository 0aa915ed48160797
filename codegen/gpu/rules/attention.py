"""Attention over pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from ....ir import Operation
from ....targets.launch_plan import Argument
from ..planning import Planning, Rule, row_type, size_of
from .batch import MAKE_BATCH, batch_arguments
from .cache import Pages, cache_arguments, pages_of, read_pages

__all__ = ["RULES", "Attention"]


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention over pages; kernels call it ``q``, ``keys``, ``values``, ``batch``, ``scores`` and ``out``.

    Attributes:
        before: arguments for ``q``, the cache and the batch.
        out: the argument for the result.
        setup: statements that make ``batch`` and ``scores``.
        shape: ``AttentionShape`` of the templates.
        keys: how they lie.
        values: how they lie.
        view: of the queries, as templates take them.
        rows: the symbol of how many tokens there are.
        heads: of queries.
        kv_heads: of the cache.
        dim: of keys.
        value_dim: of values.
        page_size: tokens of a page.
    """

    before: tuple[tuple[str, Argument], ...]
    out: tuple[str, Argument]
    setup: str
    shape: str
    keys: Pages
    values: Pages
    view: str
    rows: str
    heads: int
    kv_heads: int
    dim: int
    value_dim: int
    page_size: int

    @property
    def element(self) -> str:
        """Of the cache, as templates take it; empty where it is of codes."""
        return self.keys.element


def _paged_attention(planning: Planning, operation: Operation) -> None:
    q, keys, values, *rest = operation.operands
    described, sinks = rest[:3], rest[3:]
    caches = pages_of(keys.type, "keys"), pages_of(values.type, "values")
    heads, dim = (int(size) for size in q.type.shape[1:])
    kv_heads, page_size = (int(size) for size in keys.type.shape[1:3])
    value_dim = int(values.type.shape[3])
    slopes = cast("npt.NDArray[np.float32] | None", operation.attributes.get("slopes"))
    window, region = cast(int, operation.attributes["window"]), planning.region(q)
    flags = f"{str(bool(sinks)).lower()}, {str(slopes is not None).lower()}"
    before = (
        ("GLOBAL const float* q", region.array),
        *cache_arguments(planning, keys, caches[0]),
        *cache_arguments(planning, values, caches[1]),
        *batch_arguments(planning, described),
        *(("GLOBAL const float* sinks", planning.parameter(value)) for value in sinks),
    )
    scale, soft_cap = (float(cast(float, operation.attributes[key])) for key in ("scale", "soft_cap"))
    setup = MAKE_BATCH
    if slopes is not None:
        numbers = ", ".join(f"{float(slope)!r}f" for slope in slopes)
        setup += f"const float slopes[] = {{{numbers}}}; "
    setup += (
        f"Scores scores{{{scale!r}f, {soft_cap!r}f, {'slopes' if slopes is not None else 'nullptr'}, "
        f"{'sinks' if sinks else 'nullptr'}}}; "
    )
    attention = Attention(
        before,
        ("GLOBAL float* out", planning.result(operation.result, region.rows, heads * value_dim).array),
        setup,
        f"AttentionShape<{heads}, {kv_heads}, {dim}, {value_dim}, {page_size}, {window}, {flags}>",
        *caches,
        row_type(region.view),
        str(region.rows),
        heads,
        kv_heads,
        dim,
        value_dim,
        page_size,
    )
    if not planning.machine.attend(planning, attention):
        body = (
            f"{setup}{read_pages(*caches)}SHARED_ARRAY(float, weights, [32]); "
            f"attend<{attention.shape}, {caches[0].reader}, {caches[1].reader}, {attention.view}>"
            "(here, weights, q, cached_keys, cached_values, batch, scores, out);"
        )
        grid = (size_of(attention.rows), size_of(heads))
        planning.launch("attend", body, [*before, attention.out], grid, 32)


RULES: Mapping[str, Rule] = {"paged_attention": _paged_attention}
"""By operator."""
