"""The configuration of a decoder-only transformer, whichever family it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.types import ScalarType
from .fields import Fields
from .rope import DynamicRope, Rope
from .rope_fields import read_rope

__all__ = ["DecoderConfig", "read_decoder"]

_ACTIVATIONS = ("silu", "swish")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """All that the graph of a decoder follows from.

    Attributes:
        model_type: the family, in the words of ``transformers``.
        vocab_size: rows of the embedding, and logits of a token.
        hidden_size: elements of a token's state.
        intermediate_size: elements between the feed-forward projections.
        num_layers: transformer blocks.
        num_heads: query heads of a layer.
        num_kv_heads: key and value heads of a layer; they divide ``num_heads``.
        head_dim: elements of a head, an even number.
        max_position_embeddings: tokens the model was made for.
        rms_norm_eps: what norms add to the mean square.
        rope: the rotary embedding.
        windows: for each layer the positions a token sees, its own included; 0 is all.
        qkv_bias: whether query, key and value projections have biases.
        output_bias: whether the attention's output projection has one.
        mlp_bias: whether the feed-forward projections have biases.
        qk_norm: whether queries and keys are normed over each head.
        tie_word_embeddings: whether the head is the embedding.
        dtype: the type ``config.json`` names for the weights; each tensor's own type is what counts.
        eos_token_ids: the tokens that end an answer.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: Rope
    windows: tuple[int, ...]
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    tie_word_embeddings: bool
    dtype: ScalarType | None
    eos_token_ids: tuple[int, ...]


def read_decoder(
    fields: Fields,
    *,
    model_type: str,
    default_max_position_embeddings: int,
    default_num_kv_heads: int | None = None,
    default_head_dim: int | None = None,
    windows: tuple[int, ...],
    qkv_bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    qk_norm: bool = False,
) -> DecoderConfig:
    """Read what families of decoders have in common; the arguments are what they have of their own.

    The defaults are those of the family's class in ``transformers``, which every ``config.json`` is written
    against; ``None`` stands for as many KV heads as heads, and for heads that share the hidden size.

    Raises:
        ConfigError: a field is missing, malformed or contradicts another, or asks for what is not supported.
    """
    _refuse_unsupported(fields)
    hidden_size, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    num_kv_heads = fields.optional_integer("num_key_value_heads", default_num_kv_heads) or num_heads
    if num_heads % num_kv_heads:
        raise fields.refuse(
            f"num_key_value_heads {num_kv_heads} does not divide num_attention_heads {num_heads}"
        )
    maximum = fields.integer("max_position_embeddings", default_max_position_embeddings)
    head_dim = fields.optional_integer("head_dim", default_head_dim)
    if head_dim is None:
        if hidden_size % num_heads:
            raise fields.refuse(
                f"num_attention_heads {num_heads} does not divide hidden_size {hidden_size}, "
                "and there is no head_dim"
            )
        head_dim = hidden_size // num_heads
    if head_dim % 2:
        raise fields.refuse(f"head_dim must be even for rotary embeddings, not {head_dim}")
    rope = read_rope(fields, maximum)
    if isinstance(rope, DynamicRope) and head_dim == 2:
        raise fields.refuse("rope type 'dynamic' needs a head_dim of at least 4, not 2")
    return DecoderConfig(
        model_type=model_type,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position_embeddings=maximum,
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope=rope,
        windows=windows,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        mlp_bias=mlp_bias,
        qk_norm=qk_norm,
        tie_word_embeddings=fields.flag("tie_word_embeddings", False),
        dtype=_dtype(fields),
        eos_token_ids=fields.token_ids("eos_token_id"),
    )


def _refuse_unsupported(fields: Fields) -> None:
    """Raise for what would change the result and is not built in."""
    if quantization := fields.object("quantization_config"):
        method = quantization.text("quant_method", "an unnamed method")
        raise fields.refuse(
            f"weights quantized with {method} are not supported; give the unquantized checkpoint"
        )
    if (activation := fields.text("hidden_act", "silu")) not in _ACTIVATIONS:
        raise fields.refuse(f"hidden_act '{activation}' is not supported; supported is silu")
    if not fields.flag("is_causal", True) or fields.flag("use_bidirectional_attention", False):
        raise fields.refuse("attention that is not causal is not supported")


def _dtype(fields: Fields) -> ScalarType | None:
    name = fields.text("dtype", fields.text("torch_dtype", "")).removeprefix("torch.")
    return ScalarType(name) if name in ScalarType._value2member_map_ else None
