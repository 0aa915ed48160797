"""What lasts from step to step, pages of keys and values, and attention over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from ....ir import Operation, ScalarType, Value
from ....ir.errors import CompileError
from ....targets.launch_plan import Argument
from ..planning import Planning, Rule, row_type, size_of
from .batch import MAKE_BATCH, batch_arguments
from .rowwise import THREADS

__all__ = ["RULES", "Attention", "element_of"]

_ELEMENTS = {
    ScalarType.FLOAT32: ("float", "Float32"),
    ScalarType.FLOAT16: ("unsigned short", "Float16"),
    ScalarType.BFLOAT16: ("unsigned short", "BFloat16"),
}


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention over pages; kernels call it ``q``, ``keys``, ``values``, ``batch``, ``scores`` and ``out``.

    Attributes:
        before: arguments for ``q``, the cache and the batch.
        out: the argument for the result.
        setup: statements that make ``batch`` and ``scores``.
        shape: ``AttentionShape`` of the templates.
        element: of the cache, as templates take it.
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
    element: str
    view: str
    rows: str
    heads: int
    kv_heads: int
    dim: int
    value_dim: int
    page_size: int


def element_of(planning: Planning, cache: Value) -> tuple[str, str]:
    """How the numbers of a cache are stored, and what templates call them."""
    element = cache.type.element
    if not isinstance(element, ScalarType) or element not in _ELEMENTS:
        raise CompileError(
            f"%{cache.name}: a cache of {element} has no kernel on {planning.machine}; those of "
            "float32, float16 and bfloat16 have (--kv-cache)"
        )
    return _ELEMENTS[element]


def _append_kv(planning: Planning, operation: Operation) -> None:
    keys, values, k, v, slots = operation.operands
    stored, element = element_of(planning, keys)
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
        "(here, keys, values, k, v, slots);"
    )
    arguments = [
        (f"GLOBAL {stored}* keys", planning.states[keys]),
        (f"GLOBAL {stored}* values", planning.states[values]),
        ("GLOBAL const float* k", regions[0].array),
        ("GLOBAL const float* v", regions[1].array),
        ("GLOBAL const int* slots", planning.plain[slots]),
    ]
    planning.launch("append", body, arguments, (size_of(regions[0].rows),), THREADS)


def _paged_attention(planning: Planning, operation: Operation) -> None:
    q, keys, values, *rest = operation.operands
    described, sinks = rest[:3], rest[3:]
    stored, element = element_of(planning, keys)
    heads, dim = (int(size) for size in q.type.shape[1:])
    kv_heads, page_size = (int(size) for size in keys.type.shape[1:3])
    value_dim = int(values.type.shape[3])
    slopes = cast("npt.NDArray[np.float32] | None", operation.attributes.get("slopes"))
    window, region = cast(int, operation.attributes["window"]), planning.region(q)
    flags = f"{str(bool(sinks)).lower()}, {str(slopes is not None).lower()}"
    before = (
        ("GLOBAL const float* q", region.array),
        (f"GLOBAL const {stored}* keys", planning.states[keys]),
        (f"GLOBAL const {stored}* values", planning.states[values]),
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
        element,
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
            f"{setup}SHARED_ARRAY(float, weights, [32]); attend<{attention.shape}, {element}, "
            f"{attention.view}>(here, weights, q, keys, values, batch, scores, out);"
        )
        grid = (size_of(attention.rows), size_of(heads))
        planning.launch("attend", body, [*before, attention.out], grid, 32)


RULES: Mapping[str, Rule] = {"append_kv": _append_kv, "paged_attention": _paged_attention}
"""By operator."""
