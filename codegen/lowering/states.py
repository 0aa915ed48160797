"""What lasts from step to step: pages of keys and values or latents, slots of recurrent layers, attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from tvm import relax, tirx

from ...ir import Operation, Value
from ..kernels.append import append_to_pages
from ..kernels.attention import AttentionShape, paged_attention
from ..kernels.delta_rule import DeltaShape, paged_delta
from ..kernels.ragged_attention import RaggedShape, ragged_attention
from ..kernels.recurrent import ScanShape, paged_conv, paged_scan
from ..kernels.rows import Rows
from .layouts import cached_heads
from .step import Region, Rule, Step, width_of

__all__ = ["RULES"]


def _append_kv(step: Step, operation: Operation) -> None:
    keys, values, k, v, slots = operation.operands
    _append(step, operation, {keys: k, values: v}, slots)


def _append_latents(step: Step, operation: Operation) -> None:
    cache, latents, slots = operation.operands
    _append(step, operation, {cache: latents}, slots)


def _append(step: Step, operation: Operation, rows: Mapping[Value, Value], slots: Value) -> None:
    """Write ``rows`` of each cache, the first of which lies by column, to their slots."""
    regions = [step.region(value) for value in rows.values()]
    heads = [cached_heads(cache.type, by_column=index == 0) for index, cache in enumerate(rows)]
    arrays = [array for cache in rows for array in step.states[cache]]
    key = tuple((cache, region.view) for cache, region in zip(heads, regions, strict=True))
    arguments = [*arrays, *(region.buffer for region in regions), step.plain[slots]]
    written = step.call_in_place(append_to_pages, key, arguments, tuple(range(len(arrays))))
    if len(arrays) == 1:
        step.states[operation.result] = (written,)
        return
    parts = [step.builder.emit(relax.TupleGetItem(written, index)) for index in range(len(arrays))]
    for result, cache in zip(operation.results, heads, strict=True):
        step.states[result] = tuple(parts[: len(cache.parts)])
        del parts[: len(cache.parts)]


def _paged_attention(step: Step, operation: Operation) -> None:
    q, keys, values, *batch = operation.operands[:6]
    sinks = [step.region(value).buffer for value in operation.operands[6:]]
    region = step.region(q)
    cache = cached_heads(keys.type, by_column=True)
    shape = AttentionShape(
        int(q.type.shape[1]),
        cache.kv_heads,
        cache.dim,
        cache.page_size,
        cache.element,
        cast(float, operation.attributes["scale"]),
        cast(int, operation.attributes["window"]),
        int(values.type.shape[3]),
        cast(float, operation.attributes["soft_cap"]),
        bool(sinks),
        slopes=_slopes(operation),
    )
    caches = [*step.states[keys], *step.states[values]]
    arguments = [region.buffer, *caches, *(step.plain[value] for value in batch), *sinks]
    step.emit_rows(operation, paged_attention, (shape, region.view), arguments)


def _slopes(operation: Operation) -> tuple[float, ...]:
    slopes = cast("npt.NDArray[np.float32] | None", operation.attributes.get("slopes"))
    return () if slopes is None else tuple(map(float, slopes))


def _paged_latent_attention(step: Step, operation: Operation) -> None:
    q, latents, *batch = operation.operands
    region = step.region(q)
    cache = cached_heads(latents.type, by_column=True)
    shape = AttentionShape(
        int(q.type.shape[1]),
        cache.kv_heads,
        cache.dim,
        cache.page_size,
        cache.element,
        cast(float, operation.attributes["scale"]),
        window=0,
        value_dim=cast(int, operation.attributes["value_dim"]),
        values_of_keys=True,
    )
    arguments = [region.buffer, *step.states[latents], *(step.plain[value] for value in batch)]
    step.emit_rows(operation, paged_attention, (shape, region.view), arguments)


def _ragged_attention(step: Step, operation: Operation) -> None:
    *rows, starts = operation.operands
    regions = [step.region(value) for value in rows]
    (_, heads, head_dim), (_, kv_heads, _) = rows[0].type.shape, rows[1].type.shape
    shape = RaggedShape(
        int(heads),
        int(kv_heads),
        int(head_dim),
        cast(float, operation.attributes["scale"]),
        cast(int, operation.attributes["window"]),
        cast(bool, operation.attributes["causal"]),
    )
    arguments = [*(region.buffer for region in regions), step.plain[starts]]
    step.emit_rows(operation, ragged_attention, (shape, *(region.view for region in regions)), arguments)


def _paged_conv(step: Step, operation: Operation) -> None:
    slots, x, weight, *rest = operation.operands
    batch, bias = rest[:3], rest[3:]
    region = step.region(x)
    taps, page_size = int(weight.type.shape[0]), cast(int, operation.attributes["page_size"])
    arguments = [
        *(step.states[slots][0], region.buffer, step.region(weight).buffer),
        *(step.plain[value] for value in batch),
        *(step.region(value).buffer for value in bias),
    ]
    key = (region.view, taps, page_size, bool(bias))
    _emit_recurrent(step, operation, paged_conv, key, arguments)


def _paged_delta(step: Step, operation: Operation) -> None:
    slots, *operands = operation.operands
    regions = [step.region(value) for value in operands[:7]]
    heads, key_dim, value_dim = (int(dim) for dim in slots.type.shape[1:])
    groups, page_size = int(operands[0].type.shape[1]), cast(int, operation.attributes["page_size"])
    shape = DeltaShape(heads, value_dim, groups, key_dim, page_size)
    key = (shape, *(region.view for region in regions[:5]))
    _emit_recurrent(step, operation, paged_delta, key, _with_batch(step, operation, regions))


def _paged_scan(step: Step, operation: Operation) -> None:
    slots, *operands = operation.operands
    regions = [step.region(value) for value in operands[:7]]
    heads, state, head_dim = (int(dim) for dim in slots.type.shape[1:])
    groups, page_size = int(operands[2].type.shape[1]), cast(int, operation.attributes["page_size"])
    shape = ScanShape(heads, head_dim, groups, state, page_size)
    key = (shape, *(region.view for region in regions[:4]))
    _emit_recurrent(step, operation, paged_scan, key, _with_batch(step, operation, regions))


def _with_batch(step: Step, operation: Operation, regions: Sequence[Region]) -> list[relax.Expr]:
    """The slots, ``regions`` of the operands behind them, and the batch's description behind these."""
    slots, *operands = operation.operands
    described = (step.plain[value] for value in operands[len(regions) :])
    return [step.states[slots][0], *(region.buffer for region in regions), *described]


def _emit_recurrent(
    step: Step,
    operation: Operation,
    make: Callable[..., tirx.PrimFunc],
    key: tuple[object, ...],
    arguments: list[relax.Expr],
) -> None:
    """Call a kernel that writes to its first argument, slots of state, and whose last are rows."""
    written, rows = operation.results
    width = width_of(rows.type)
    types = [arguments[0].ty, step.tensor((rows.type.shape[0], width), "float32")]
    kernel = step.kernel(make, key)
    called = step.builder.emit(relax.op.call_tir_inplace(kernel, arguments, [0, -1], types))
    step.states[written] = (step.builder.emit(relax.TupleGetItem(called, 0)),)
    buffer = step.builder.emit(relax.TupleGetItem(called, 1))
    step.regions[rows] = Region(buffer, rows.type.shape[:1], Rows.dense(width))


RULES: Mapping[str, Rule] = {
    "append_kv": _append_kv,
    "append_latents": _append_latents,
    "paged_attention": _paged_attention,
    "paged_conv": _paged_conv,
    "paged_delta": _paged_delta,
    "paged_latent_attention": _paged_latent_attention,
    "paged_scan": _paged_scan,
    "ragged_attention": _ragged_attention,
}
"""By operator."""
