"""The decoder that Llama's form became common as: embedding, blocks, norm, head."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Module, Value
from ...ir.types import ScalarType
from ..configs import DecoderConfig
from .blocks import Attention, Embedding, GatedFeedForward, Linear, RmsNorm, TransformerBlock
from .builder import ModelBuilder, identity
from .rotary import rotation

__all__ = ["DecoderNames", "build_decoder"]


@dataclass(frozen=True, slots=True)
class DecoderNames:
    """Where a checkpoint keeps what; those below ``layer`` are within a layer."""

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
    feed_forward_norm: str = "post_attention_layernorm"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"


def build_decoder(builder: ModelBuilder, config: DecoderConfig, name: str) -> Module:
    """The model over one whole sequence, in plain operators and without a cache.

    ``forward`` takes ``token_ids`` and ``positions``, int32 ``[tokens]``, and returns ``logits``, float32
    ``[tokens, vocab_size]``. ``prepare`` returns the checkpoint's tensors as it is given them: at this stage
    nothing is done to weights. Cosines and sines, and a mask for each window there is, are made once and
    shared by the layers.
    """
    names = DecoderNames()
    token_ids = builder.input("token_ids", ("tokens",), ScalarType.INT32)
    positions = builder.input("positions", ("tokens",), ScalarType.INT32)
    x = Embedding(names.embedding, config.vocab_size, config.hidden_size)(builder, token_ids)
    turn = rotation(builder, config.rope, config.head_dim, positions)
    masks = {window: _mask(builder, positions, window) for window in dict.fromkeys(config.windows)}
    for index in range(config.num_layers):
        block = _block(config, names, index)
        x = block(builder, x, turn, masks[block.window])
    x = RmsNorm(names.final_norm, config.hidden_size, config.rms_norm_eps)(builder, x)
    head = names.embedding if config.tie_word_embeddings else names.head
    logits = Linear(head, config.hidden_size, config.vocab_size)(builder, x, result="logits")
    forward = builder.build(logits)
    return Module(name, "plain", identity(forward.parameters), forward)


def _mask(builder: ModelBuilder, positions: Value, window: int) -> Value:
    mask = builder.emit("causal_mask", positions, window=window)
    return builder.emit("reshape", mask, shape=(1, "tokens", "tokens"))


def _block(config: DecoderConfig, names: DecoderNames, index: int) -> TransformerBlock:
    prefix = names.layer.format(index=index)
    hidden, wide = config.hidden_size, config.intermediate_size
    all_heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim

    def norm(part: str, size: int) -> RmsNorm:
        return RmsNorm(f"{prefix}.{part}", size, config.rms_norm_eps)

    def linear(part: str, in_features: int, out_features: int, bias: bool) -> Linear:
        return Linear(f"{prefix}.{part}", in_features, out_features, bias)

    return TransformerBlock(
        attention_norm=norm(names.attention_norm, hidden),
        attention=Attention(
            query=linear(names.query, hidden, all_heads, config.qkv_bias),
            key=linear(names.key, hidden, kv_heads, config.qkv_bias),
            value=linear(names.value, hidden, kv_heads, config.qkv_bias),
            output=linear(names.output, all_heads, hidden, config.output_bias),
            head_dim=config.head_dim,
            query_norm=norm(names.query_norm, config.head_dim) if config.qk_norm else None,
            key_norm=norm(names.key_norm, config.head_dim) if config.qk_norm else None,
        ),
        feed_forward_norm=norm(names.feed_forward_norm, hidden),
        feed_forward=GatedFeedForward(
            gate=linear(names.gate, hidden, wide, config.mlp_bias),
            up=linear(names.up, hidden, wide, config.mlp_bias),
            down=linear(names.down, wide, hidden, config.mlp_bias),
        ),
        window=config.windows[index],
    )
