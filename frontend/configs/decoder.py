"""The configuration of a decoder-only transformer, whichever family it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ...ir.types import ScalarType
from .fields import Fields
from .latent import LatentConfig
from .mixture import MixtureConfig
from .recurrent import RecurrentConfig
from .rope import DynamicRope, LongRope, Rope
from .rope_fields import read_rope, read_rotary_dim

__all__ = ["BlockForm", "DecoderConfig", "NormForm", "read_decoder"]

_ACTIVATIONS: Mapping[str, str] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
"""Operators by the names that ``transformers`` has for them."""


class NormForm(Enum):
    """How the rows are normed."""

    RMS = "by their root mean square"
    RMS_ABOUT_ONE = "the same, with weights stored less one"
    LAYER = "by mean and variance, with a bias"
    LAYER_UNBIASED = "the same, without a bias"


class BlockForm(Enum):
    """Where in a block the norms are."""

    BEFORE = "before attention and before feed-forward"
    AFTER = "after each, before it comes to the residual"
    BOTH = "before and after each"
    PARALLEL = "one before both, which run side by side"


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
        norm_epsilon: what norms add to the mean square.
        ropes: for each layer its rotary embedding, ``None`` for none.
        rotary_dim: elements of a head, from the first on, that are turned; an even number.
        windows: for each layer the positions a token sees, its own included; 0 is all.
        qkv_bias: whether query, key and value projections have biases.
        output_bias: whether the attention's output projection has one.
        mlp_bias: whether the feed-forward projections have biases.
        qk_norm: whether queries and keys are normed.
        recurrent: for each layer what stands in the place of attention, None where there is attention; none
            at all where there is attention in every layer.
        tie_word_embeddings: whether the head is the embedding.
        dtype: the type ``config.json`` names for the weights; each tensor's own type is what counts.
        eos_token_ids: the tokens that end an answer.
        activation: the operator between the feed-forward projections.
        gated: whether the feed-forward has a gate.
        norm: the form of norms.
        block: where they are.
        qk_norm_of_all: whether it is all heads together that are normed, not each.
        rope_interleaved: whether neighbours turn together, and not elements half of ``rotary_dim`` apart.
        attention_scale: what attention's scores are multiplied by, ``None`` for ``head_dim ** -0.5``.
        attention_soft_cap: what these are kept within by a tanh, 0 for nothing.
        logit_soft_cap: likewise the logits.
        embedding_multiplier: what embeddings are multiplied by.
        residual_multiplier: what each layer's attention and feed-forward are, on their way to the residual.
        logit_divisor: what logits are divided by.
        head_bias: whether the head has a bias.
        mixtures: for each layer its mixture of experts, None where its feed-forward is one; none at all where
            no layer has any.
        attention_gate: whether what heads say is multiplied by the sigmoid of a gate, which the query
            projection gives beside each head's query.
        is_causal: whether tokens see only those before them; a model of others gives no next token.
        latent: the attention, where keys and values are made of latents; ``head_dim`` is then that part of a
            head that is turned.
        num_draft_layers: layers behind the last that a checkpoint may hold to guess further tokens by; they
            are left out.
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
    norm_epsilon: float
    ropes: tuple[Rope | None, ...]
    rotary_dim: int
    windows: tuple[int, ...]
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    tie_word_embeddings: bool
    dtype: ScalarType | None
    eos_token_ids: tuple[int, ...]
    activation: str = "silu"
    gated: bool = True
    norm: NormForm = NormForm.RMS
    block: BlockForm = BlockForm.BEFORE
    qk_norm_of_all: bool = False
    rope_interleaved: bool = False
    attention_scale: float | None = None
    attention_soft_cap: float = 0.0
    logit_soft_cap: float = 0.0
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logit_divisor: float = 1.0
    head_bias: bool = False
    mixtures: tuple[MixtureConfig | None, ...] = ()
    recurrent: tuple[RecurrentConfig | None, ...] = ()
    attention_gate: bool = False
    latent: LatentConfig | None = None
    num_draft_layers: int = 0

    def mixture(self, layer: int) -> MixtureConfig | None:
        """The mixture of a layer, None where it has none."""
        return self.mixtures[layer] if self.mixtures else None

    def recurrence(self, layer: int) -> RecurrentConfig | None:
        """What stands in the place of a layer's attention, None where nothing does."""
        return self.recurrent[layer] if self.recurrent else None

    is_causal: bool = True


def read_decoder(
    fields: Fields,
    *,
    model_type: str,
    default_max_position_embeddings: int,
    default_num_kv_heads: int | None = None,
    default_head_dim: int | None = None,
    default_tie: bool = False,
    default_rotary_factor: float | None = None,
    activation: tuple[str, str] = ("hidden_act", "silu"),
    norm_epsilon: tuple[str, float] = ("rms_norm_eps", 1e-6),
    ropes: tuple[Rope | None, ...] | None = None,
    windows: tuple[int, ...],
    qkv_bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    qk_norm: bool = False,
    mixtures: tuple[MixtureConfig | None, ...] = (),
    takes_both_ways: bool = False,
) -> DecoderConfig:
    """Read what families of decoders have in common; the arguments are what they have of their own.

    The defaults are those of the family's class in ``transformers``, which every ``config.json`` is written
    against; ``None`` stands for as many KV heads as heads, for heads that share the hidden size, for heads
    that are turned whole, and for one rotary embedding for all layers. ``activation`` and ``norm_epsilon``
    are a field and its default. ``takes_both_ways`` leaves ``use_bidirectional_attention`` to the family.
    What few families have is left out; they :func:`dataclasses.replace` it.

    Raises:
        ConfigError: a field is missing, malformed or contradicts another, or asks for what is not supported.
    """
    _refuse_unsupported(fields, takes_both_ways)
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
    num_layers = fields.integer("num_hidden_layers")
    if ropes is None:
        ropes = (read_rope(fields, maximum),) * num_layers
    rotary_dim = read_rotary_dim(fields, head_dim, default_rotary_factor or 1.0)
    if default_rotary_factor is None and rotary_dim != head_dim:
        raise fields.refuse("partial_rotary_factor is not supported: heads are rotated whole")
    _check_ropes(fields, ropes, rotary_dim)
    return DecoderConfig(
        model_type=model_type,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position_embeddings=maximum,
        norm_epsilon=fields.number(*norm_epsilon),
        ropes=ropes,
        rotary_dim=rotary_dim,
        windows=windows,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        mlp_bias=mlp_bias,
        qk_norm=qk_norm,
        tie_word_embeddings=fields.flag("tie_word_embeddings", default_tie),
        dtype=_dtype(fields),
        eos_token_ids=fields.token_ids("eos_token_id"),
        activation=_activation(fields, *activation),
        mixtures=mixtures,
    )


def _activation(fields: Fields, field: str, default: str) -> str:
    name = fields.text(field, default)
    if name not in _ACTIVATIONS:
        raise fields.refuse(f"{field} '{name}' is not supported; supported are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _check_ropes(fields: Fields, ropes: tuple[Rope | None, ...], rotary_dim: int) -> None:
    for rope in dict.fromkeys(ropes):
        if isinstance(rope, DynamicRope) and rotary_dim == 2:
            raise fields.refuse("rope type 'dynamic' needs a head_dim of at least 4, not 2")
        if isinstance(rope, LongRope):
            for name, factors in (("short_factor", rope.short_factors), ("long_factor", rope.long_factors)):
                if len(factors) != rotary_dim // 2:
                    raise fields.refuse(
                        f"'{name}' must have {rotary_dim // 2} numbers, one for each pair, not {len(factors)}"
                    )


def _refuse_unsupported(fields: Fields, takes_both_ways: bool) -> None:
    """Raise for what would change the result and is not built in."""
    both_ways = fields.flag("use_bidirectional_attention", False) and not takes_both_ways
    if not fields.flag("is_causal", True) or both_ways:
        raise fields.refuse("attention that is not causal is not supported")


def _dtype(fields: Fields) -> ScalarType | None:
    name = fields.text("dtype", fields.text("torch_dtype", "")).removeprefix("torch.")
    return ScalarType(name) if name in ScalarType._value2member_map_ else None
