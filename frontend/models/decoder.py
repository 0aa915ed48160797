"""The decoder that Llama's form became common as: embedding, blocks, norm, head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...ir.errors import ConfigError
from ...ir.graph import Module, Value
from ...ir.types import ScalarType
from ..configs import BlockForm, DecoderConfig, NormForm, Rope
from .blocks import (
    Attention,
    Embedding,
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    Norm,
    ParallelBlock,
    RmsNorm,
    TransformerBlock,
    capped,
    scaled,
)
from .builder import ModelBuilder, identity, scalar
from .latent import LatentAttention, latent_attention
from .linears import GatedQuery, GroupedLinears, JoinedLinears, Linear, Linears, Projections
from .mixture import MixtureNames, MixtureOfExperts
from .recurrent import recurrent_block
from .rotary import Rotation, rotation

__all__ = ["DecoderNames", "build_decoder", "encode_by_decoder"]


@dataclass(frozen=True, slots=True)
class DecoderNames:
    """Where a checkpoint keeps what; those below ``layer`` are within a layer.

    The ``joined`` ones, where there are any, hold what others keep apart; ``sinks`` are those of attention.
    """

    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    head: str = "lm_head"
    layer: str = "model.layers.{index}"
    attention_norm: str = "input_layernorm"
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    output: str = "self_attn.o_proj"
    query_norm: str = "self_attn.q_norm"
    key_norm: str = "self_attn.k_norm"
    recurrent: str = "mixer"
    feed_forward_norm: str = "post_attention_layernorm"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    attention_post_norm: str = "post_attention_layernorm"
    feed_forward_post_norm: str = "post_feedforward_layernorm"
    joined_query_key_value: str | None = None
    joined_gate_up: str | None = None
    sinks: str | None = None
    mixture: MixtureNames = field(default_factory=MixtureNames)


def build_decoder(
    builder: ModelBuilder, config: DecoderConfig, name: str, *, names: DecoderNames = DecoderNames()
) -> Module:
    """The model over one whole sequence, in plain operators and without a cache.

    ``forward`` takes ``token_ids`` and ``positions``, int32 ``[tokens]``, and returns ``logits``, float32
    ``[tokens, vocab_size]``. ``prepare`` returns the checkpoint's tensors as it is given them: at this stage
    nothing is done to weights. Cosines and sines, and a mask for each window there is, are made once and
    shared by the layers.
    """
    if not config.is_causal:
        raise ConfigError(
            "config.json: a model whose attention is not causal gives embeddings, and generates no text"
        )
    x = encode_by_decoder(builder, config, names=names)
    forward = builder.build(_logits(builder, config, names, x))
    return Module(name, "plain", identity(forward.parameters), forward)


def encode_by_decoder(
    builder: ModelBuilder, config: DecoderConfig, *, names: DecoderNames = DecoderNames()
) -> Value:
    """The states ``[tokens, hidden_size]`` behind the last norm, which the head makes logits of."""
    token_ids = builder.input("token_ids", ("tokens",), ScalarType.INT32)
    positions = builder.input("positions", ("tokens",), ScalarType.INT32)
    x = Embedding(names.embedding, config.vocab_size, config.hidden_size)(builder, token_ids)
    x = scaled(builder, x, config.embedding_multiplier)
    turns = {rope: _rotation(builder, config, rope, positions) for rope in dict.fromkeys(config.ropes)}
    kind = "causal_mask" if config.is_causal else "bidirectional_mask"
    masks = {window: _mask(builder, kind, positions, window) for window in dict.fromkeys(config.windows)}
    for index in range(config.num_layers):
        block = _block(config, names, index)
        x = block(builder, x, turns[config.ropes[index]], masks[config.windows[index]])
    return _norm(config, names.final_norm, config.hidden_size)(builder, x)


def _mask(builder: ModelBuilder, kind: str, positions: Value, window: int) -> Value:
    mask = builder.emit(kind, positions, window=window)
    return builder.emit("reshape", mask, shape=(1, "tokens", "tokens"))


def _rotation(
    builder: ModelBuilder, config: DecoderConfig, rope: Rope | None, positions: Value
) -> Rotation | None:
    if rope is None:
        return None
    return rotation(builder, rope, config.rotary_dim, positions, interleaved=config.rope_interleaved)


def _logits(builder: ModelBuilder, config: DecoderConfig, names: DecoderNames, x: Value) -> Value:
    head = names.embedding if config.tie_word_embeddings else names.head
    operands = [x, builder.weight(f"{head}.weight", config.vocab_size, config.hidden_size)]
    if config.head_bias:
        operands.append(builder.float32_weight(f"{names.head}.bias", config.vocab_size))
    logits = builder.emit("linear", *operands, name="logits")
    if config.logit_divisor != 1.0:
        logits = builder.emit("div", logits, builder.constant(scalar(config.logit_divisor)))
    return capped(builder, logits, config.logit_soft_cap)


def _norm(config: DecoderConfig, name: str, size: int) -> Norm:
    match config.norm:
        case NormForm.LAYER | NormForm.LAYER_UNBIASED:
            return LayerNorm(name, size, config.norm_epsilon, bias=config.norm is NormForm.LAYER)
        case NormForm.RMS_ABOUT_ONE:
            return RmsNorm(name, size, config.norm_epsilon, base=1.0)
        case NormForm.RMS:
            return RmsNorm(name, size, config.norm_epsilon)


def _block(config: DecoderConfig, names: DecoderNames, index: int) -> TransformerBlock | ParallelBlock:
    prefix = names.layer.format(index=index)
    recurrence = config.recurrence(index)
    attention = (
        _attention(config, names, prefix)
        if recurrence is None
        else recurrent_block(f"{prefix}.{names.recurrent}", config.hidden_size, recurrence)
    )
    feed_forward = _feed_forward(config, names, index)

    def norm(part: str, *forms: BlockForm) -> Norm | None:
        return _norm(config, f"{prefix}.{part}", config.hidden_size) if config.block in forms else None

    if config.block is BlockForm.PARALLEL:
        only = _norm(config, f"{prefix}.{names.attention_norm}", config.hidden_size)
        return ParallelBlock(only, attention, feed_forward)
    return TransformerBlock(
        attention=attention,
        feed_forward=feed_forward,
        attention_norm=norm(names.attention_norm, BlockForm.BEFORE, BlockForm.BOTH),
        feed_forward_norm=norm(names.feed_forward_norm, BlockForm.BEFORE, BlockForm.BOTH),
        attention_post_norm=norm(names.attention_post_norm, BlockForm.AFTER, BlockForm.BOTH),
        feed_forward_post_norm=norm(names.feed_forward_post_norm, BlockForm.AFTER, BlockForm.BOTH),
        residual_multiplier=config.residual_multiplier,
    )


def _attention(config: DecoderConfig, names: DecoderNames, prefix: str) -> Attention | LatentAttention:
    if config.latent is not None:
        return latent_attention(prefix, config.hidden_size, config.num_heads, config.latent)
    hidden, head_dim = config.hidden_size, config.head_dim
    all_heads, kv_heads = config.num_heads * head_dim, config.num_kv_heads * head_dim
    query_norm, key_norm = (
        _norm(config, f"{prefix}.{name}", size if config.qk_norm_of_all else head_dim)
        if config.qk_norm
        else None
        for name, size in ((names.query_norm, all_heads), (names.key_norm, kv_heads))
    )
    return Attention(
        projections=_query_key_value(config, names, prefix),
        output=Linear(f"{prefix}.{names.output}", all_heads, hidden, config.output_bias),
        head_dim=head_dim,
        scale=head_dim**-0.5 if config.attention_scale is None else config.attention_scale,
        soft_cap=config.attention_soft_cap,
        query_norm=query_norm,
        key_norm=key_norm,
        sinks=None if names.sinks is None else f"{prefix}.{names.sinks}",
    )


def _query_key_value(config: DecoderConfig, names: DecoderNames, prefix: str) -> Projections:
    hidden, head_dim, bias = config.hidden_size, config.head_dim, config.qkv_bias
    all_heads, kv_heads = config.num_heads * head_dim, config.num_kv_heads * head_dim
    others = {names.key: kv_heads, names.value: kv_heads}
    if config.attention_gate:
        both = Linear(f"{prefix}.{names.query}", hidden, 2 * all_heads, bias)
        rest = Linears(tuple(Linear(f"{prefix}.{part}", hidden, size, bias) for part, size in others.items()))
        return GatedQuery(GroupedLinears(both, config.num_heads, (head_dim, head_dim)), rest)
    parts = {names.query: all_heads, **others}
    return _projections(prefix, names.joined_query_key_value, parts, hidden, bias)


def _feed_forward(
    config: DecoderConfig, names: DecoderNames, index: int
) -> GatedFeedForward | FeedForward | MixtureOfExperts:
    prefix, mixture = names.layer.format(index=index), config.mixture(index)
    if mixture is not None:
        return MixtureOfExperts(prefix, names.mixture, config.hidden_size, mixture, config.activation)
    hidden, wide, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
    down = Linear(f"{prefix}.{names.down}", wide, hidden, bias)
    if not config.gated:
        return FeedForward(Linear(f"{prefix}.{names.up}", hidden, wide, bias), down, config.activation)
    both = _projections(prefix, names.joined_gate_up, {names.gate: wide, names.up: wide}, hidden, bias)
    return GatedFeedForward(both, down, config.activation)


def _projections(
    prefix: str, joined: str | None, parts: Mapping[str, int], in_features: int, bias: bool
) -> Linears | JoinedLinears:
    """Projections of the sizes ``parts`` has by name, or of these sizes within the tensor ``joined``."""
    if joined is not None:
        whole = Linear(f"{prefix}.{joined}", in_features, sum(parts.values()), bias)
        return JoinedLinears(whole, tuple(parts.values()))
    return Linears(tuple(Linear(f"{prefix}.{part}", in_features, size, bias) for part, size in parts.items()))
