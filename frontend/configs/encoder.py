"""The configuration of an encoder in the form of BERT (Devlin et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import Fields

__all__ = ["EncoderConfig", "read_encoder"]

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """All that the graph of an encoder follows from.

    Attributes:
        model_type: the family, in the words of ``transformers``.
        vocab_size: rows of the embedding.
        hidden_size: elements of a token's state.
        intermediate_size: elements between the feed-forward projections.
        num_layers: transformer blocks.
        num_heads: heads of a layer; they divide ``hidden_size``.
        max_position_embeddings: tokens of the longest sequence.
        first_position: the row of the table of positions that is the first token's.
        num_token_types: rows of the table of token types; 0 where there is none.
        layer_norm_eps: what norms add to the variance.
        activation: the feed-forward's, as an operator.
        eos_token_ids: none: nothing is generated.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    max_position_embeddings: int
    first_position: int
    num_token_types: int
    layer_norm_eps: float
    activation: str
    eos_token_ids: tuple[int, ...] = ()

    @property
    def head_dim(self) -> int:
        """Elements of a head."""
        return self.hidden_size // self.num_heads


def read_encoder(
    fields: Fields,
    *,
    model_type: str,
    first_position: int = 0,
    default_token_types: int = 2,
    has_token_types: bool = True,
) -> EncoderConfig:
    """Read what BERT and its descendants have in common.

    Raises:
        ConfigError: a field is missing, malformed or contradicts another, or asks for what is not supported.
    """
    _refuse_unsupported(fields)
    hidden_size, num_heads = fields.integer("hidden_size", 768), fields.integer("num_attention_heads", 12)
    if hidden_size % num_heads:
        raise fields.refuse(f"num_attention_heads {num_heads} does not divide hidden_size {hidden_size}")
    positions = fields.integer("max_position_embeddings", 512)
    if positions <= first_position:
        raise fields.refuse(
            f"max_position_embeddings is {positions}, and the first {first_position} are no token's"
        )
    activation = fields.text("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        supported = ", ".join(_ACTIVATIONS)
        raise fields.refuse(f"hidden_act '{activation}' is not supported; supported are {supported}")
    return EncoderConfig(
        model_type=model_type,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size", 3072),
        num_layers=fields.integer("num_hidden_layers", 12),
        num_heads=num_heads,
        max_position_embeddings=positions - first_position,
        first_position=first_position,
        num_token_types=fields.integer("type_vocab_size", default_token_types) if has_token_types else 0,
        layer_norm_eps=fields.number("layer_norm_eps", 1e-12),
        activation=_ACTIVATIONS[activation],
    )


def _refuse_unsupported(fields: Fields) -> None:
    """Raise for what would change the result and is not built in."""
    if quantization := fields.object("quantization_config"):
        method = quantization.text("quant_method", "an unnamed method")
        raise fields.refuse(
            f"weights quantized with {method} are not supported; give the unquantized checkpoint"
        )
    for name in ("is_decoder", "add_cross_attention"):
        if fields.flag(name, False):
            raise fields.refuse(f"'{name}' is not supported")
    if (kind := fields.text("position_embedding_type", "absolute")) != "absolute":
        raise fields.refuse(f"position_embedding_type '{kind}' is not supported; supported is absolute")
