"""The KV cache, in pages (Kwon et al., 2023), and beside it the states of recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..ir import Dim, Graph, GraphBuilder, Module, Operation, ScalarType, Value
from ..ir.errors import CompileError
from .base import Pass, Rewritten
from .cache_types import CacheType
from .rewriting import ModuleRewriter

__all__ = ["LARGEST_PAGE", "SMALLEST_PAGE", "PageKVCache"]

SMALLEST_PAGE = 16
LARGEST_PAGE = 1024
"""Positions in a page: a power of two between these."""


@dataclass(frozen=True)
class PageKVCache(Pass):
    """From a model over one whole sequence to one step over a ragged batch.

    Each ``attention`` becomes ``append_kv`` to its own states ``kv.N.keys`` and ``kv.N.values``
    ``[pages, kv_heads, page_size, head_dim]`` of what ``kv_cache`` says, and ``paged_attention`` over them.
    Each ``latent_attention`` becomes ``append_latents`` to its own ``kv.N.latents``
    ``[pages, 1, page_size, n]``, and ``paged_latent_attention``. Each ``causal_conv`` becomes ``paged_conv``,
    each ``selective_scan`` ``paged_scan`` and each ``gated_delta_rule`` ``paged_delta``, with a slot of state
    in float32 for each page (see :mod:`ingot.ir.operators.recurrent`): ``conv.N.slots``
    ``[pages, taps - 1, channels]``, ``scan.N.slots`` ``[pages, heads, state, head_dim]``, ``delta.N.slots``
    ``[pages, heads, key_dim, value_dim]``.
    Forward takes the batch's description (see :mod:`ingot.ir.operators.cache`) and ``logit_rows``, the tokens
    whose logits are wanted: its outputs are logits ``[rows, vocabulary]`` and the states as written.

    A page holds ``page_size`` positions; ``None`` stands for 16, or for more where slots of state would take
    more memory than the keys and values of their pages do, up to :data:`LARGEST_PAGE`.

    Raises :class:`CompileError` where tokens of different sequences would still mix, or no linear makes the
    logits.
    """

    page_size: int | None
    kv_cache: CacheType

    name: ClassVar[str] = "page_kv_cache"
    requires: ClassVar[tuple[str, ...]] = ("fused", "quantized", "paged")
    ensures: ClassVar[str | None] = "paged"

    @property
    def preserves_values(self) -> bool:
        """Only with a cache of float32."""
        return self.kv_cache is CacheType.FLOAT32

    def rewrite(self, module: Module) -> Rewritten:
        """See the class."""
        if module.stage == "paged":
            return Rewritten(module)
        graph = module.forward
        for operation in graph.operations:
            if operation.operator == "bidirectional_attention":
                value = operation.result.name
                raise CompileError(
                    f"{self.name}: attention both ways (%{value}) sees what no cache holds yet"
                )
            if operation.operator in ("causal_mask", "softmax"):
                value = operation.result.name
                raise CompileError(f"{self.name}: {operation.operator} (%{value}) is part of no attention")
        path = _path_of_logits(graph)
        page_size = self.page_size or _fitting_page_size(graph, self.kv_cache)
        rewriter = ModuleRewriter(module)
        builder = rewriter.forward.builder
        batch = _Batch.declare(builder)
        caches: list[Value] = []
        slots: list[Value] = []
        latents: list[Value] = []
        written: list[Value] = []
        rules: dict[Operation, Callable[[], None]] = dict.fromkeys(path, lambda: None)
        for operation in graph.operations:
            if operation.operator == "attention":
                rows = operation.operands[1:3]
                caches.extend(self._declare_caches(builder, page_size, len(caches) // 2, *rows))
                pair = caches[-2], caches[-1]
                rules[operation] = partial(_page, rewriter, batch, operation, pair, written)
            elif operation.operator == "latent_attention":
                latents.append(self._declare_latents(builder, page_size, len(latents), operation.operands[1]))
                rules[operation] = partial(_page_latents, rewriter, batch, operation, latents[-1], written)
            elif operation.operator in _SLOTS:
                slots.append(_declare_slots(builder, slots, operation))
                rules[operation] = partial(
                    _keep_state, rewriter, batch, operation, slots[-1], page_size, written
                )
        rewriter.forward.apply(rules)
        logits = _emit_rows(rewriter, path, batch.logit_rows)
        return Rewritten(rewriter.finish([logits, *graph.outputs[1:], *written]))

    def _declare_caches(
        self, builder: GraphBuilder, page_size: int, layer: int, keys: Value, values: Value
    ) -> tuple[Value, Value]:
        element = self.kv_cache.element([int(rows.type.shape[2]) for rows in (keys, values)])

        def declare(kind: str, rows: Value) -> Value:
            _, kv_heads, head_dim = rows.type.shape
            return builder.state(f"kv.{layer}.{kind}", ("pages", kv_heads, page_size, head_dim), element)

        return declare("keys", keys), declare("values", values)

    def _declare_latents(self, builder: GraphBuilder, page_size: int, layer: int, latents: Value) -> Value:
        width = int(latents.type.shape[1])
        element = self.kv_cache.element([width])
        return builder.state(f"kv.{layer}.latents", ("pages", 1, page_size, width), element)


@dataclass(frozen=True, slots=True)
class _Batch:
    """The inputs that describe a ragged batch."""

    sequence_starts: Value
    context_lengths: Value
    page_table: Value
    slots: Value
    logit_rows: Value

    @property
    def described(self) -> tuple[Value, Value, Value]:
        """What attention is told of the batch."""
        return self.sequence_starts, self.context_lengths, self.page_table

    @classmethod
    def declare(cls, builder: GraphBuilder) -> _Batch:
        """New inputs, in this order."""
        return cls(
            builder.input("sequence_starts", ["sequence_bounds"], ScalarType.INT32),
            builder.input("context_lengths", ["sequences"], ScalarType.INT32),
            builder.input("page_table", ["sequences", "pages_per_sequence"], ScalarType.INT32),
            builder.input("slots", ["tokens"], ScalarType.INT32),
            builder.input("logit_rows", ["rows"], ScalarType.INT32),
        )


def _page(
    rewriter: ModuleRewriter,
    batch: _Batch,
    attention: Operation,
    caches: tuple[Value, Value],
    written: list[Value],
) -> None:
    q, k, v, *sinks = attention.operands
    names = [f"{cache.name}.written" for cache in caches]
    appended = rewriter.forward.emit_all("append_kv", (*caches, k, v, batch.slots), {}, names=names)
    written.extend(appended)
    rewriter.forward.emit_all(
        "paged_attention",
        (q, *appended, *batch.described, *sinks),
        attention.attributes,
        replaces=attention.results,
    )


def _page_latents(
    rewriter: ModuleRewriter, batch: _Batch, attention: Operation, cache: Value, written: list[Value]
) -> None:
    q, latents = attention.operands
    operands = cache, latents, batch.slots
    appended = rewriter.forward.emit("append_latents", *operands, name=f"{cache.name}.written")
    written.append(appended)
    rewriter.forward.emit_all(
        "paged_latent_attention",
        (q, appended, *batch.described),
        attention.attributes,
        replaces=attention.results,
    )


def _conv_slot(operation: Operation) -> tuple[Dim, ...]:
    taps, channels = operation.operands[1].type.shape
    return int(taps) - 1, channels


def _scan_slot(operation: Operation) -> tuple[Dim, ...]:
    x, _, b, *_ = (operand.type.shape for operand in operation.operands)
    return x[1], b[2], x[2]


def _delta_slot(operation: Operation) -> tuple[Dim, ...]:
    _, k, v, *_ = (operand.type.shape for operand in operation.operands)
    return v[1], k[2], v[2]


_SLOTS: Mapping[str, tuple[str, int, Callable[[Operation], tuple[Dim, ...]]]] = {
    "causal_conv": ("conv", 2, _conv_slot),
    "gated_delta_rule": ("delta", 7, _delta_slot),
    "selective_scan": ("scan", 7, _scan_slot),
}
"""For each recurrent operator what its states are called, the operands before the batch's, a slot's shape."""


def _declare_slots(builder: GraphBuilder, declared: Sequence[Value], operation: Operation) -> Value:
    kind, _, shape = _SLOTS[operation.operator]
    number = sum(value.name.startswith(f"{kind}.") for value in declared)
    return builder.state(f"{kind}.{number}.slots", ("pages", *shape(operation)), ScalarType.FLOAT32)


def _keep_state(
    rewriter: ModuleRewriter,
    batch: _Batch,
    recurrent: Operation,
    slots: Value,
    page_size: int,
    written: list[Value],
) -> None:
    kind, count, _ = _SLOTS[recurrent.operator]
    own, more = recurrent.operands[:count], recurrent.operands[count:]
    described = batch.sequence_starts, batch.context_lengths, batch.page_table
    results = rewriter.forward.emit_all(
        f"paged_{kind}",
        (slots, *own, *described, *more),
        {**recurrent.attributes, "page_size": page_size},
        names=(f"{slots.name}.written",),
        replaces=(None, recurrent.result),
    )
    written.append(results[0])


def _fitting_page_size(graph: Graph, kv_cache: CacheType) -> int:
    """The least size of page whose keys and values take no less than its slots of state."""
    slot_bytes, kv_bytes = 0, 0
    for operation in graph.operations:
        if operation.operator in _SLOTS:
            shape = _SLOTS[operation.operator][2](operation)
            slot_bytes += math.prod(map(int, shape)) * ScalarType.FLOAT32.num_bytes
        elif operation.operator == "attention":
            rows = (value.type.shape[1:] for value in operation.operands[1:3])
            kv_bytes += sum(math.prod(map(int, shape)) for shape in rows) * kv_cache.bits // 8
    size = SMALLEST_PAGE
    while size < LARGEST_PAGE and size * kv_bytes < slot_bytes:
        size *= 2
    return size


def _path_of_logits(graph: Graph) -> tuple[Operation, ...]:
    """The operations from the head's input (before it is rounded) to the logits, in order."""
    path: list[Operation] = []
    value = graph.outputs[0] if graph.outputs else None
    while value is not None:
        producer = graph.producers.get(value)
        if producer is None or (path and path[-1].operator == "linear" and producer.operator != "quantize"):
            break
        path.append(producer)
        if producer.operator == "quantize":
            break
        by_token = [operand for operand in producer.operands if "tokens" in operand.type.shape]
        value = by_token[0] if len(by_token) == 1 else None
    if not any(operation.operator == "linear" for operation in path):
        raise CompileError("page_kv_cache: no linear makes the logits, forward's first output")
    for operation in path[1:]:
        if len(graph.users[operation.result]) > 1 or operation.result in graph.outputs:
            raise CompileError(
                f"page_kv_cache: %{operation.result.name}, on the way to the logits, has other uses"
            )
    return tuple(reversed(path))


def _emit_rows(rewriter: ModuleRewriter, path: tuple[Operation, ...], logit_rows: Value) -> Value:
    """Repeat ``path`` for the rows asked for."""
    forward = rewriter.forward
    (hidden,) = (operand for operand in path[0].operands if "tokens" in operand.type.shape)
    forward.replace(hidden, forward.emit("gather_rows", hidden, logit_rows))
    for operation in path:
        attributes = {
            key: tuple("rows" if dim == "tokens" else dim for dim in value)
            if isinstance(value, tuple)
            else value
            for key, value in operation.attributes.items()
        }
        forward.emit_all(operation.operator, operation.operands, attributes, replaces=operation.results)
    return forward.now(path[-1].result)
