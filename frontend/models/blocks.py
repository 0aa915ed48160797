"""The blocks that decoders are composed of, emitted as plain operators: one of each, whatever the family.

A block is a frozen record of its sizes and of its tensors' names; calling it with a builder and values emits
it. Fusing what these emit into what kernels compute is left to the passes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Value
from .builder import ModelBuilder, scalar
from .rotary import Rotation

__all__ = ["Attention", "Embedding", "GatedFeedForward", "Linear", "RmsNorm", "TransformerBlock"]


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
class Linear:
    """A projection by a matrix ``[out_features, in_features]``, with or without a bias."""

    name: str
    in_features: int
    out_features: int
    bias: bool = False

    def __call__(self, builder: ModelBuilder, x: Value, *, result: str | None = None) -> Value:
        """``[..., in_features]`` to ``[..., out_features]``; ``result`` names the value."""
        operands = [x, builder.weight(f"{self.name}.weight", self.out_features, self.in_features)]
        if self.bias:
            operands.append(builder.float32_weight(f"{self.name}.bias", self.out_features))
        return builder.emit("linear", *operands, name=result)


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """Root mean square norm over the last dimension (Zhang and Sennrich, 2019)."""

    name: str
    size: int
    epsilon: float

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``x / sqrt(mean(x ** 2) + epsilon) * weight``, in the shape of ``x``."""
        mean = builder.emit("mean", builder.emit("square", x), axis=x.type.rank - 1)
        inverse = builder.emit("rsqrt", builder.emit("add", mean, builder.constant(scalar(self.epsilon))))
        weight = builder.float32_weight(f"{self.name}.weight", self.size)
        return builder.emit("mul", builder.emit("mul", x, inverse), weight)


@dataclass(frozen=True, slots=True)
class Attention:
    """Causal attention with grouped KV heads (Ainslie et al., 2023), with or without norms of q and k."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    head_dim: int
    query_norm: RmsNorm | None = None
    key_norm: RmsNorm | None = None

    def __call__(self, builder: ModelBuilder, x: Value, rotation: Rotation, mask: Value) -> Value:
        """``x`` is ``[tokens, hidden_size]``, ``mask`` ``[1, tokens, tokens]``; the result is like ``x``."""
        q = self._heads(builder, self.query(builder, x))
        k = self._heads(builder, self.key(builder, x))
        v = self._heads(builder, self.value(builder, x))
        if self.query_norm is not None:
            q = self.query_norm(builder, q)
        if self.key_norm is not None:
            k = self.key_norm(builder, k)
        mixed = self._attend(builder, rotation(builder, q), rotation(builder, k), v, mask)
        return self.output(builder, mixed)

    def _heads(self, builder: ModelBuilder, x: Value) -> Value:
        (_, features) = x.type.shape
        heads = int(features) // self.head_dim
        return builder.emit("reshape", x, shape=("tokens", heads, self.head_dim))

    def _attend(self, builder: ModelBuilder, q: Value, k: Value, v: Value, mask: Value) -> Value:
        group = self.query.out_features // self.key.out_features
        q, k, v = (builder.emit("transpose", x, axes=(1, 0, 2)) for x in (q, k, v))
        if group > 1:
            k, v = (builder.emit("repeat", x, axis=0, times=group) for x in (k, v))
        scores = builder.emit("matmul", q, builder.emit("transpose", k, axes=(0, 2, 1)))
        scaled = builder.emit("mul", scores, builder.constant(scalar(self.head_dim**-0.5)))
        weights = builder.emit("softmax", builder.emit("add", scaled, mask), axis=2)
        mixed = builder.emit("transpose", builder.emit("matmul", weights, v), axes=(1, 0, 2))
        return builder.emit("reshape", mixed, shape=("tokens", self.output.in_features))


@dataclass(frozen=True, slots=True)
class GatedFeedForward:
    """``down(silu(gate(x)) * up(x))`` (Shazeer, 2020)."""

    gate: Linear
    up: Linear
    down: Linear

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``[tokens, hidden_size]`` to the same."""
        gate, up = self.gate(builder, x), self.up(builder, x)
        return self.down(builder, builder.emit("mul", builder.emit("silu", gate), up))


@dataclass(frozen=True, slots=True)
class TransformerBlock:
    """Attention and feed-forward, each behind its norm and beside its residual; ``window`` 0 sees all."""

    attention_norm: RmsNorm
    attention: Attention
    feed_forward_norm: RmsNorm
    feed_forward: GatedFeedForward
    window: int

    def __call__(self, builder: ModelBuilder, x: Value, rotation: Rotation, mask: Value) -> Value:
        """``[tokens, hidden_size]`` to the same."""
        x = builder.emit("add", x, self.attention(builder, self.attention_norm(builder, x), rotation, mask))
        return builder.emit("add", x, self.feed_forward(builder, self.feed_forward_norm(builder, x)))
