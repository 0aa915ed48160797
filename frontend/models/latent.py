"""Multi-head latent attention (DeepSeek-AI, 2024) as plain operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ir.graph import Value
from ..configs import LatentConfig
from .blocks import RmsNorm, attend
from .builder import ModelBuilder
from .linears import Linear
from .rotary import Rotation

__all__ = ["LatentAttention", "LowRankLinear", "latent_attention"]

_EPSILON = 1e-6
"""Of the norms within the attention, whatever ``rms_norm_eps`` says of the others."""


@dataclass(frozen=True, slots=True)
class LowRankLinear:
    """A projection through fewer elements, normed in between."""

    down: Linear
    norm: RmsNorm
    up: Linear

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``up(norm(down(x)))``."""
        return self.up(builder, self.norm(builder, self.down(builder, x)))


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Causal attention whose keys and values are made of a token's latents.

    A head's queries and keys are a part of its own and a part that is turned, which keys of all heads share.

    Attributes:
        query: to the queries of all heads.
        down: to the latents, and to the shared part of keys.
        norm: of the latents.
        up: from the latents to each head's own part of keys, and its value.
        output: from what the heads say, side by side, to the hidden size.
        heads: how many there are.
        config: the sizes, and the scale.
    """

    query: Callable[[ModelBuilder, Value], Value]
    down: Linear
    norm: RmsNorm
    up: Linear
    output: Linear
    heads: int
    config: LatentConfig

    def __call__(self, builder: ModelBuilder, x: Value, rotation: Rotation | None, mask: Value) -> Value:
        """``x`` is ``[tokens, hidden_size]``, ``mask`` ``[1, tokens, tokens]``; the result is like ``x``."""
        config = self.config
        q_own, q_shared = self._heads(builder, self.query(builder, x), config.own_dim, config.shared_dim)
        latents, shared = _cut(builder, self.down(builder, x), config.rank, axis=1)
        shared = builder.emit("reshape", shared, shape=("tokens", 1, config.shared_dim))
        if rotation is not None:
            q_shared, shared = rotation(builder, q_shared), rotation(builder, shared)
        shared = builder.emit("repeat", shared, axis=1, times=self.heads)
        expanded = self.up(builder, self.norm(builder, latents))
        k_own, v = self._heads(builder, expanded, config.own_dim, config.value_dim)
        q = builder.emit("concat", q_own, q_shared, axis=2)
        k = builder.emit("concat", k_own, shared, axis=2)
        return self.output(builder, attend(builder, q, k, v, mask, scale=config.scale))

    def _heads(self, builder: ModelBuilder, x: Value, first: int, second: int) -> tuple[Value, Value]:
        """Both parts of each head, ``[tokens, heads, first]`` and ``[tokens, heads, second]``."""
        heads = builder.emit("reshape", x, shape=("tokens", self.heads, first + second))
        return _cut(builder, heads, first, axis=2)


def _cut(builder: ModelBuilder, x: Value, size: int, *, axis: int) -> tuple[Value, Value]:
    """The first ``size`` elements along ``axis``, and the others."""
    first = builder.emit("slice", x, axis=axis, start=0, stop=size)
    return first, builder.emit("slice", x, axis=axis, start=size, stop=int(x.type.shape[axis]))


def latent_attention(prefix: str, hidden_size: int, heads: int, config: LatentConfig) -> LatentAttention:
    """The attention of the layer ``prefix``, by the names that DeepSeek's checkpoints have."""

    def linear(part: str, in_features: int, out_features: int, bias: bool = False) -> Linear:
        return Linear(f"{prefix}.self_attn.{part}", in_features, out_features, bias)

    def norm(part: str, size: int) -> RmsNorm:
        return RmsNorm(f"{prefix}.self_attn.{part}", size, _EPSILON)

    queries, rank = heads * (config.own_dim + config.shared_dim), config.rank
    if config.query_rank is None:
        query: Callable[[ModelBuilder, Value], Value] = linear("q_proj", hidden_size, queries)
    else:
        query = LowRankLinear(
            down=linear("q_a_proj", hidden_size, config.query_rank, config.bias),
            norm=norm("q_a_layernorm", config.query_rank),
            up=linear("q_b_proj", config.query_rank, queries),
        )
    return LatentAttention(
        query=query,
        down=linear("kv_a_proj_with_mqa", hidden_size, rank + config.shared_dim, config.bias),
        norm=norm("kv_a_layernorm", rank),
        up=linear("kv_b_proj", rank, heads * (config.own_dim + config.value_dim)),
        output=linear("o_proj", heads * config.value_dim, hidden_size, config.bias),
        heads=heads,
        config=config,
    )
