"""The encoder in BERT's form: three embeddings, blocks that see both ways, a norm behind each part."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Value
from ...ir.types import ScalarType
from ..configs import EncoderConfig
from .blocks import Embedding, LayerNorm
from .builder import ModelBuilder, scalar
from .linears import Linear

__all__ = ["EncoderBlock", "EncoderNames", "encode"]


@dataclass(frozen=True, slots=True)
class EncoderNames:
    """Where a checkpoint keeps what, below the encoder's prefix; all but ``layer`` are within a layer."""

    layer: str = "encoder.layer.{index}"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    feed_forward_norm: str = "output.LayerNorm"


@dataclass(frozen=True, slots=True)
class EncoderBlock:
    """Attention both ways and a plain feed-forward, each with a residual and a norm behind it."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: LayerNorm
    up: Linear
    down: Linear
    feed_forward_norm: LayerNorm
    head_dim: int
    activation: str

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``[tokens, hidden_size]`` to the same."""
        x = self.attention_norm(builder, builder.emit("add", self._attend(builder, x), x))
        wide = builder.emit(self.activation, self.up(builder, x))
        return self.feed_forward_norm(builder, builder.emit("add", self.down(builder, wide), x))

    def _attend(self, builder: ModelBuilder, x: Value) -> Value:
        q, k, v = (self._heads(builder, linear(builder, x)) for linear in (self.query, self.key, self.value))
        scores = builder.emit("matmul", q, builder.emit("transpose", k, axes=(0, 2, 1)))
        scaled = builder.emit("mul", scores, builder.constant(scalar(self.head_dim**-0.5)))
        mixed = builder.emit("matmul", builder.emit("softmax", scaled, axis=2), v)
        rows = builder.emit("transpose", mixed, axes=(1, 0, 2))
        return self.output(builder, builder.emit("reshape", rows, shape=("tokens", self.output.in_features)))

    def _heads(self, builder: ModelBuilder, x: Value) -> Value:
        """``[tokens, hidden_size]`` as ``[heads, tokens, head_dim]``."""
        heads = self.output.in_features // self.head_dim
        rows = builder.emit("reshape", x, shape=("tokens", heads, self.head_dim))
        return builder.emit("transpose", rows, axes=(1, 0, 2))


def encode(
    builder: ModelBuilder, config: EncoderConfig, prefix: str, names: EncoderNames = EncoderNames()
) -> Value:
    """The states ``[tokens, hidden_size]`` of a whole sequence; ``prefix`` begins the names of all tensors.

    Inputs are ``token_ids``, ``positions`` and, where there are several, ``token_types``, int32 ``[tokens]``.
    """
    x = _embed(builder, config, f"{prefix}embeddings")
    for index in range(config.num_layers):
        x = _block(config, names, prefix + names.layer.format(index=index))(builder, x)
    return x


def _embed(builder: ModelBuilder, config: EncoderConfig, name: str) -> Value:
    size = config.hidden_size
    token_ids, positions = (
        builder.input(label, ("tokens",), ScalarType.INT32) for label in ("token_ids", "positions")
    )
    x = Embedding(f"{name}.word_embeddings", config.vocab_size, size)(builder, token_ids)
    first, count = config.first_position, config.max_position_embeddings
    places = builder.weight(f"{name}.position_embeddings.weight", first + count, size)
    if first:
        places = builder.emit("slice", places, axis=0, start=first, stop=first + count)
    kinds = Embedding(f"{name}.token_type_embeddings", config.num_token_types, size)
    if config.num_token_types > 1:
        token_types = builder.input("token_types", ("tokens",), ScalarType.INT32)
        x = builder.emit("add", x, kinds(builder, token_types))
    elif config.num_token_types:  # all tokens are of the one kind there is, wherever they are
        kind = builder.weight(f"{kinds.name}.weight", 1, size)
        places = builder.emit("add", places, kind)
    x = builder.emit("add", x, builder.emit("embedding", places, positions))
    return LayerNorm(f"{name}.LayerNorm", size, config.layer_norm_eps)(builder, x)


def _block(config: EncoderConfig, names: EncoderNames, name: str) -> EncoderBlock:
    hidden, wide = config.hidden_size, config.intermediate_size

    def linear(part: str, in_features: int, out_features: int) -> Linear:
        return Linear(f"{name}.{part}", in_features, out_features, bias=True)

    def norm(part: str) -> LayerNorm:
        return LayerNorm(f"{name}.{part}", hidden, config.layer_norm_eps)

    return EncoderBlock(
        query=linear(names.query, hidden, hidden),
        key=linear(names.key, hidden, hidden),
        value=linear(names.value, hidden, hidden),
        output=linear(names.output, hidden, hidden),
        attention_norm=norm(names.attention_norm),
        up=linear(names.up, hidden, wide),
        down=linear(names.down, wide, hidden),
        feed_forward_norm=norm(names.feed_forward_norm),
        head_dim=config.head_dim,
        activation=config.activation,
    )
