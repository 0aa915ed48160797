"""Attention over keys and values in pages, and attention within whole sequences.

Heads that share keys stand together as rows of one product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ...ir import Operation, ScalarType, Value
from .batch import Batch
from .caches import gather_pages
from .step import Rule, Step

__all__ = ["RULES"]


@dataclass(frozen=True, slots=True)
class Heads:
    """What attention is told besides rows: heads, and what is done to scores.

    ``hidden`` is added to scores ``[sequences, 1, queries, 1, keys]``; ``distance`` is how far keys lie
    before queries, in the same shape, where there are ``slopes``; ``keys`` is how many there are, int64 [1].
    """

    heads: int
    kv_heads: int
    dim: int
    value_dim: int
    scale: float
    hidden: str
    keys: str
    soft_cap: float = 0.0
    distance: str = ""
    slopes: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None = None
    sinks: str = ""


def _attend(step: Step, batch: Batch, q: str, k: str, v: str, shape: Heads, result: Value) -> None:
    """Attention of ``q`` ``[tokens, heads, dim]`` over ``k``, ``v`` ``[sequences, kv_heads, keys, ...]``."""
    group = shape.heads // shape.kv_heads
    flat = step.reshape(q, [-1, shape.heads * shape.dim])
    if shape.scale != 1.0:
        flat = step.emit("Mul", flat, step.constant(float(shape.scale)))
    queries = step.reshape(batch.spread(flat), [0, 0, shape.kv_heads, group, shape.dim])
    queries = step.emit("Transpose", queries, perm=[0, 2, 1, 3, 4])
    queries = step.reshape(queries, [0, 0, -1, shape.dim])
    scores = step.emit("MatMul", queries, step.emit("Transpose", k, perm=[0, 1, 3, 2]))

    apart = step.once(
        ("apart", group, shape.keys),
        lambda: step.emit("Concat", step.constant([0, 0, -1, group]), shape.keys, axis=0),
    )
    scores = step.emit("Reshape", scores, apart)
    if shape.soft_cap:
        cap = step.constant(float(shape.soft_cap))
        scores = step.emit("Mul", step.emit("Tanh", step.emit("Div", scores, cap)), cap)
    if shape.slopes is not None:
        slopes = step.constant(shape.slopes.reshape(1, shape.kv_heads, 1, group, 1))
        scores = step.emit("Sub", scores, step.emit("Mul", shape.distance, slopes))
    scores = step.emit("Add", scores, shape.hidden)
    weights = _softmax(step, scores, shape, group)
    together = step.once(
        ("together", shape.keys),
        lambda: step.emit("Concat", step.constant([0, 0, -1]), shape.keys, axis=0),
    )
    mixed = step.emit("MatMul", step.emit("Reshape", weights, together), v)
    mixed = step.reshape(mixed, [0, 0, -1, group, shape.value_dim])
    mixed = step.emit("Transpose", mixed, perm=[0, 2, 1, 3, 4])
    rows = batch.gather(step.reshape(mixed, [-1, shape.heads * shape.value_dim]))
    step.reshape(rows, [-1, shape.heads, shape.value_dim], result)


def _softmax(step: Step, scores: str, shape: Heads, group: int) -> str:
    """Over the keys, and over a sink that gets a weight and has no value."""
    if not shape.sinks:
        return step.emit("Softmax", scores, axis=-1)
    sinks = step.reshape(shape.sinks, [1, shape.kv_heads, 1, group, 1])
    like = step.slice(scores, 4, 0, 1)
    column = step.emit("Add", step.emit("Mul", like, step.constant(0.0)), sinks)
    weights = step.emit("Softmax", step.emit("Concat", scores, column, axis=-1), axis=-1)
    return step.slice(weights, 4, 0, -1)


def _paged_attention(step: Step, operation: Operation) -> None:
    q, keys, values, starts, lengths, table, *sinks = operation.operands
    batch = Batch(step, starts)
    attributes = operation.attributes
    window, kv_heads = cast(int, attributes["window"]), int(keys.type.shape[1])
    page_size = int(keys.type.shape[2])
    shape = Heads(
        int(q.type.shape[1]),
        kv_heads,
        int(q.type.shape[2]),
        int(values.type.shape[3]),
        cast(float, attributes["scale"]),
        _seen_in_pages(step, batch, lengths, table, page_size, window),
        _num_keys(step, table, page_size),
        soft_cap=cast(float, attributes["soft_cap"]),
        sinks=step.name(sinks[0]) if sinks else "",
    )
    if "slopes" in attributes:
        slopes = np.asarray(attributes["slopes"], np.float32)
        distance = _distance(step, batch, lengths, table, page_size)
        shape = replace(shape, distance=distance, slopes=slopes)
    k, v = (gather_pages(step, cache, table) for cache in (keys, values))
    _attend(step, batch, step.name(q), k, v, shape, operation.result)


def _paged_latent_attention(step: Step, operation: Operation) -> None:
    q, latents, starts, lengths, table = operation.operands
    batch, page_size = Batch(step, starts), int(latents.type.shape[2])
    value_dim = cast(int, operation.attributes["value_dim"])
    shape = Heads(
        int(q.type.shape[1]),
        1,
        int(q.type.shape[2]),
        value_dim,
        cast(float, operation.attributes["scale"]),
        _seen_in_pages(step, batch, lengths, table, page_size, 0),
        _num_keys(step, table, page_size),
    )
    k = gather_pages(step, latents, table)
    _attend(step, batch, step.name(q), k, step.slice(k, 3, 0, value_dim), shape, operation.result)


def _num_keys(step: Step, table: Value, page_size: int) -> str:
    """int64 ``[1]``: positions that the pages of the longest sequence hold."""

    def compute() -> str:
        pages = step.emit("Shape", step.name(table), start=1)
        return step.emit("Mul", pages, step.constant([page_size]))

    return step.once(("keys", page_size), compute)


def _key_places(step: Step, keys: str) -> str:
    """int64 ``[keys]``: their positions."""

    def compute() -> str:
        count = step.emit("Squeeze", keys)
        return step.emit("Range", step.constant(0), count, step.constant(1))

    return step.once(("key places", keys), compute)


def _seen_in_pages(
    step: Step, batch: Batch, lengths: Value, table: Value, page_size: int, window: int
) -> str:
    """What hides keys behind the query, or before its window: ``[sequences, 1, queries, 1, keys]``."""

    def compute() -> str:
        places = _key_places(step, _num_keys(step, table, page_size))
        queries = step.unsqueeze(batch.positions(step.name(lengths)), 1, 3, 4)
        seen = step.emit("LessOrEqual", places, queries)
        if window:
            before = step.emit("Sub", queries, step.constant(window))
            seen = step.emit("And", seen, step.emit("Greater", places, before))
        return batch.hide(("pages", window), seen)

    return step.once(("seen in pages", page_size, window), compute)


def _distance(step: Step, batch: Batch, lengths: Value, table: Value, page_size: int) -> str:
    """How far each key lies before each query: float32 ``[sequences, 1, queries, 1, keys]``."""

    def compute() -> str:
        places = _key_places(step, _num_keys(step, table, page_size))
        queries = step.unsqueeze(batch.positions(step.name(lengths)), 1, 3, 4)
        return step.cast(step.emit("Sub", queries, places), ScalarType.FLOAT32)

    return step.once(("distance", page_size), compute)


def _ragged_attention(step: Step, operation: Operation) -> None:
    """Attention among a sequence's own tokens: keys are spread like queries."""
    q, k, v, starts = operation.operands
    batch, attributes = Batch(step, starts), operation.attributes
    window, causal = cast(int, attributes["window"]), cast(bool, attributes["causal"])
    kv_heads, dim = int(k.type.shape[1]), int(k.type.shape[2])
    keys, values = (
        step.emit("Transpose", batch.spread(step.name(rows)), perm=[0, 2, 1, 3]) for rows in (k, v)
    )
    shape = Heads(
        int(q.type.shape[1]),
        kv_heads,
        dim,
        int(v.type.shape[2]),
        cast(float, attributes["scale"]),
        _seen_in_sequence(step, batch, causal, window),
        step.once(("longest",), lambda: step.emit("Shape", batch.places)),
    )
    _attend(step, batch, step.name(q), keys, values, shape, operation.result)


def _seen_in_sequence(step: Step, batch: Batch, causal: bool, window: int) -> str:
    """What hides tokens that are not there, or out of sight: ``[sequences, 1, queries, 1, keys]``."""

    def compute() -> str:
        seen = step.unsqueeze(batch.is_token, 1, 2, 3)
        distance = step.emit("Sub", step.unsqueeze(batch.places, 1, 2), batch.places)
        if causal:
            seen = step.emit("And", seen, step.emit("GreaterOrEqual", distance, step.constant(0)))
        if window:
            near = step.emit("Less", step.emit("Abs", distance), step.constant(window))
            seen = step.emit("And", seen, near)
        return batch.hide(("sequence", causal, window), seen)

    return step.once(("seen in sequence", causal, window), compute)


RULES: Mapping[str, Rule] = {
    "paged_attention": _paged_attention,
    "paged_latent_attention": _paged_latent_attention,
    "ragged_attention": _ragged_attention,
}
"""By operator."""
