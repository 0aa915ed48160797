"""The blocks that decoders are composed of, emitted as plain operators: one of each, whatever the family.

A block is a frozen record of its sizes and of its tensors' names; calling it with a builder and values emits
it. Fusing what these emit into what kernels compute is left to the passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ir.graph import Value
from .builder import ModelBuilder, scalar
from .linears import Linear, Projections
from .rotary import Rotation

__all__ = [
    "Attention",
    "Embedding",
    "FeedForward",
    "GatedFeedForward",
    "LayerNorm",
    "Norm",
    "ParallelBlock",
    "RmsNorm",
    "TransformerBlock",
    "attend",
    "capped",
    "normed",
    "scaled",
]


@dataclass(frozen=True, slots=True)
class Embedding:
    """A table of ``[vocab_size, hidden_size]``."""

    name: str
    vocab_size: int
    hidden_size: int

    def __call__(self, builder: ModelBuilder, token_ids: Value) -> Value:
        """Rows ``[tokens, hidden_size]`` in float32."""
        return builder.emit(
            "embedding", builder.weight(f"{self.name}.weight", self.vocab_size, self.hidden_size), token_ids
        )


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """Root mean square norm over the last dimension (Zhang and Sennrich, 2019).

    The checkpoint holds what its weight has more than ``base``.
    """

    name: str
    size: int
    epsilon: float
    base: float = 0.0

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``x / sqrt(mean(x ** 2) + epsilon) * weight``, in the shape of ``x``."""
        weight = builder.float32_weight(f"{self.name}.weight", self.size)
        if self.base:
            weight = builder.emit("add", weight, builder.constant(scalar(self.base)))
        return builder.emit("mul", normed(builder, x, self.epsilon), weight)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Norm of the distances from the mean over the last dimension (Ba et al., 2016)."""

    name: str
    size: int
    epsilon: float
    bias: bool = True

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``(x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias``, in the shape of ``x``."""
        distance = builder.emit("sub", x, builder.emit("mean", x, axis=x.type.rank - 1))
        weight = builder.float32_weight(f"{self.name}.weight", self.size)
        scaled = builder.emit("mul", normed(builder, distance, self.epsilon), weight)
        if not self.bias:
            return scaled
        return builder.emit("add", scaled, builder.float32_weight(f"{self.name}.bias", self.size))


Norm = RmsNorm | LayerNorm
"""Every kind of norm."""


def normed(builder: ModelBuilder, x: Value, epsilon: float) -> Value:
    """``x / sqrt(mean(x ** 2) + epsilon)`` over the last dimension."""
    mean = builder.emit("mean", builder.emit("square", x), axis=x.type.rank - 1)
    inverse = builder.emit("rsqrt", builder.emit("add", mean, builder.constant(scalar(epsilon))))
    return builder.emit("mul", x, inverse)


def scaled(builder: ModelBuilder, x: Value, factor: float) -> Value:
    """``x * factor``; ``x`` itself for a factor of 1."""
    return x if factor == 1.0 else builder.emit("mul", x, builder.constant(scalar(factor)))


def capped(builder: ModelBuilder, x: Value, cap: float) -> Value:
    """``cap * tanh(x / cap)``; ``x`` itself for a cap of 0."""
    if not cap:
        return x
    number = builder.constant(scalar(cap))
    return builder.emit("mul", builder.emit("tanh", builder.emit("div", x, number)), number)


@dataclass(frozen=True, slots=True)
class Attention:
    """Causal attention with grouped KV heads (Ainslie et al., 2023).

    Attributes:
        projections: to queries, keys and values, and to a gate of what the heads say, where there is one.
        output: from what the heads say, side by side, to the hidden size.
        head_dim: elements of a head.
        scale: what scores are multiplied by.
        soft_cap: what scores are kept within, 0 for nothing.
        query_norm: of queries, over the heads or over each by the norm's size; ``None`` is none.
        key_norm: likewise of keys.
        sinks: name of the tensor with one logit a head for nothing (Xiao et al., 2023); ``None`` is none.
    """

    projections: Projections
    output: Linear
    head_dim: int
    scale: float
    soft_cap: float = 0.0
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    sinks: str | None = None

    def __call__(self, builder: ModelBuilder, x: Value, rotation: Rotation | None, mask: Value) -> Value:
        """``x`` is ``[tokens, hidden_size]``, ``mask`` ``[1, tokens, tokens]``; the result is like ``x``."""
        q, k, v, *gates = self.projections(builder, x)
        q = self._heads(builder, q, self.query_norm)
        k = self._heads(builder, k, self.key_norm)
        v = self._heads(builder, v, None)
        if rotation is not None:
            q, k = rotation(builder, q), rotation(builder, k)
        sinks = None if self.sinks is None else builder.float32_weight(self.sinks, int(q.type.shape[1]))
        mixed = attend(builder, q, k, v, mask, scale=self.scale, soft_cap=self.soft_cap, sinks=sinks)
        for gate in gates:
            mixed = builder.emit("mul", mixed, builder.emit("sigmoid", gate))
        return self.output(builder, mixed)

    def _heads(self, builder: ModelBuilder, x: Value, norm: Norm | None) -> Value:
        """``[tokens, heads, head_dim]``, normed."""
        (_, features) = x.type.shape
        of_all = norm is not None and norm.size == features != self.head_dim
        if norm is not None and of_all:
            x = norm(builder, x)
        heads = builder.emit("reshape", x, shape=("tokens", int(features) // self.head_dim, self.head_dim))
        return norm(builder, heads) if norm is not None and not of_all else heads


def attend(
    builder: ModelBuilder,
    q: Value,
    k: Value,
    v: Value,
    mask: Value,
    *,
    scale: float,
    soft_cap: float = 0.0,
    sinks: Value | None = None,
) -> Value:
    """What the heads say, side by side: ``[tokens, heads * value_dim]``.

    ``q`` is ``[tokens, heads, head_dim]``, ``k`` ``[tokens, kv_heads, head_dim]``, ``v`` ``[tokens, kv_heads,
    value_dim]``, ``mask`` ``[1, tokens, tokens]`` and ``sinks`` ``[heads]``; for the numbers see
    :class:`Attention`.
    """
    heads, kv_heads, value_dim = (int(dim) for dim in (*q.type.shape[1:2], *v.type.shape[1:]))
    q, k, v = (builder.emit("transpose", x, axes=(1, 0, 2)) for x in (q, k, v))
    if heads != kv_heads:
        k, v = (builder.emit("repeat", x, axis=0, times=heads // kv_heads) for x in (k, v))
    scores = builder.emit("matmul", q, builder.emit("transpose", k, axes=(0, 2, 1)))
    scores = builder.emit("mul", scores, builder.constant(scalar(scale)))
    seen = [builder.emit("add", capped(builder, scores, soft_cap), mask)]
    if sinks is not None:
        seen.append(builder.emit("reshape", sinks, shape=(heads, 1, 1)))
    weights = builder.emit("softmax", *seen, axis=2)
    mixed = builder.emit("transpose", builder.emit("matmul", weights, v), axes=(1, 0, 2))
    return builder.emit("reshape", mixed, shape=("tokens", heads * value_dim))


@dataclass(frozen=True, slots=True)
class FeedForward:
    """``down(activation(up(x)))``."""

    up: Linear
    down: Linear
    activation: str

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``[tokens, hidden_size]`` to the same."""
        return self.down(builder, builder.emit(self.activation, self.up(builder, x)))


@dataclass(frozen=True, slots=True)
class GatedFeedForward:
    """``down(activation(gate(x)) * up(x))`` (Shazeer, 2020)."""

    projections: Projections
    down: Linear
    activation: str = "silu"

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``[tokens, hidden_size]`` to the same."""
        gate, up = self.projections(builder, x)
        return self.down(builder, builder.emit("mul", builder.emit(self.activation, gate), up))


@dataclass(frozen=True, slots=True)
class TransformerBlock:
    """Attention and feed-forward, each beside its residual, with norms before it, after it, or both.

    What comes to a residual is multiplied by ``residual_multiplier``.
    """

    attention: Callable[[ModelBuilder, Value, Rotation | None, Value], Value]
    feed_forward: Callable[[ModelBuilder, Value], Value]
    attention_norm: Norm | None
    feed_forward_norm: Norm | None
    attention_post_norm: Norm | None = None
    feed_forward_post_norm: Norm | None = None
    residual_multiplier: float = 1.0

    def __call__(self, builder: ModelBuilder, x: Value, rotation: Rotation | None, mask: Value) -> Value:
        """``[tokens, hidden_size]`` to the same."""
        rows = self.attention_norm(builder, x) if self.attention_norm is not None else x
        mixed = self.attention(builder, rows, rotation, mask)
        x = self._beside(builder, x, mixed, self.attention_post_norm)
        rows = self.feed_forward_norm(builder, x) if self.feed_forward_norm is not None else x
        return self._beside(builder, x, self.feed_forward(builder, rows), self.feed_forward_post_norm)

    def _beside(self, builder: ModelBuilder, x: Value, more: Value, norm: Norm | None) -> Value:
        more = norm(builder, more) if norm is not None else more
        return builder.emit("add", x, scaled(builder, more, self.residual_multiplier))


@dataclass(frozen=True, slots=True)
class ParallelBlock:
    """Attention and feed-forward side by side behind one norm (GPT-J; Wang and Komatsuzaki, 2021)."""

    norm: Norm
    attention: Callable[[ModelBuilder, Value, Rotation | None, Value], Value]
    feed_forward: Callable[[ModelBuilder, Value], Value]

    def __call__(self, builder: ModelBuilder, x: Value, rotation: Rotation | None, mask: Value) -> Value:
        """``[tokens, hidden_size]`` to the same."""
        rows = self.norm(builder, x)
        mixed = self.attention(builder, rows, rotation, mask)
        return builder.emit("add", x, builder.emit("add", mixed, self.feed_forward(builder, rows)))
