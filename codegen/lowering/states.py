"""What lasts from step to step: pages of keys and values or latents, slots of recurrent layers, attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from tvm import relax, tirx

from ...ir import Operation
from ..kernels.attention import AttentionShape, paged_attention
from ..kernels.latent import append_latents
from ..kernels.pointwise import append_kv
from ..kernels.ragged_attention import RaggedShape, ragged_attention
from ..kernels.recurrent import ScanShape, paged_conv, paged_scan
from ..kernels.rows import Rows
from .step import Region, Rule, Step, width_of

__all__ = ["RULES"]


def _append_kv(step: Step, operation: Operation) -> None:
    keys, values, k, v, slots = operation.operands
    _, kv_heads, page_size, _ = (dim if isinstance(dim, int) else 0 for dim in keys.type.shape)
    k_rows, v_rows = step.region(k), step.region(v)
    dtype = keys.type.scalar.value
    key = (k_rows.view, v_rows.view, kv_heads, page_size, dtype)
    caches = [step.plain[keys], step.plain[values]]
    arguments = [*caches, k_rows.buffer, v_rows.buffer, step.plain[slots]]
    written = step.call_in_place(append_kv, key, arguments, (0, 1))
    for index, result in enumerate(operation.results):
        step.plain[result] = step.builder.emit(relax.TupleGetItem(written, index))


def _paged_attention(step: Step, operation: Operation) -> None:
    q, keys, values, *batch = operation.operands[:6]
    sinks = [step.region(value).buffer for value in operation.operands[6:]]
    region = step.region(q)
    _, heads, head_dim = q.type.shape
    _, kv_heads, page_size, _ = keys.type.shape
    shape = AttentionShape(
        int(heads),
        int(kv_heads),
        int(head_dim),
        int(page_size),
        keys.type.scalar.value,
        cast(float, operation.attributes["scale"]),
        cast(int, operation.attributes["window"]),
        int(values.type.shape[3]),
        cast(float, operation.attributes["soft_cap"]),
        bool(sinks),
    )
    arguments = [region.buffer, *(step.plain[value] for value in (keys, values, *batch)), *sinks]
    step.emit_rows(operation, paged_attention, (shape, region.view), arguments)


def _append_latents(step: Step, operation: Operation) -> None:
    cache, latents, slots = operation.operands
    region = step.region(latents)
    key = (region.view, int(cache.type.shape[2]), cache.type.scalar.value)
    arguments = [step.plain[cache], region.buffer, step.plain[slots]]
    step.plain[operation.result] = step.call_in_place(append_latents, key, arguments, (0,))


def _paged_latent_attention(step: Step, operation: Operation) -> None:
    q, cache, *batch = operation.operands
    region = step.region(q)
    _, heads, head_dim = q.type.shape
    shape = AttentionShape(
        int(heads),
        1,
        int(head_dim),
        int(cache.type.shape[2]),
        cache.type.scalar.value,
        cast(float, operation.attributes["scale"]),
        window=0,
        value_dim=cast(int, operation.attributes["value_dim"]),
        values_of_keys=True,
    )
    arguments = [region.buffer, *(step.plain[value] for value in (cache, *batch))]
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
        *(step.plain[slots], region.buffer, step.region(weight).buffer),
        *(step.plain[value] for value in batch),
        *(step.region(value).buffer for value in bias),
    ]
    key = (region.view, taps, page_size, bool(bias))
    _emit_recurrent(step, operation, paged_conv, key, arguments)


def _paged_scan(step: Step, operation: Operation) -> None:
    slots, *operands = operation.operands
    regions = [step.region(value) for value in operands[:7]]
    heads, state, head_dim = (int(dim) for dim in slots.type.shape[1:])
    groups, page_size = int(operands[2].type.shape[1]), cast(int, operation.attributes["page_size"])
    arguments = [
        step.plain[slots],
        *(region.buffer for region in regions),
        *(step.plain[value] for value in operands[7:]),
    ]
    shape = ScanShape(heads, head_dim, groups, state, page_size)
    key = (shape, *(region.view for region in regions[:4]))
    _emit_recurrent(step, operation, paged_scan, key, arguments)


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
    step.plain[written] = step.builder.emit(relax.TupleGetItem(called, 0))
    buffer = step.builder.emit(relax.TupleGetItem(called, 1))
    step.regions[rows] = Region(buffer, rows.type.shape[:1], Rows.dense(width))


RULES: Mapping[str, Rule] = {
    "append_kv": _append_kv,
    "append_latents": _append_latents,
    "paged_attention": _paged_attention,
    "paged_conv": _paged_conv,
    "paged_latent_attention": _paged_latent_attention,
    "paged_scan": _paged_scan,
    "ragged_attention": _ragged_attention,
}
"""By operator."""
