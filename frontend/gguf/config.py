"""From a GGUF file's metadata to the ``config.json`` that the model's checkpoint would have."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .architecture import Architecture, Key, Kind
from .architectures import ARCHITECTURES
from .facts import Facts
from .hyperparameters import Hyperparameters
from .rope import read_rope_scaling

__all__ = ["find_architecture", "read_config"]

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"


def find_architecture(facts: Facts) -> Architecture:
    """The architecture that a model's files name.

    Raises:
        ConfigError: it is not one that is read; the message names those that are.
    """
    parameters = facts.parameters
    if parameters.architecture not in ARCHITECTURES:
        raise parameters.refuse(
            f"GGUF files of this architecture are not supported; supported are {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[parameters.architecture]


def read_config(facts: Facts, architecture: Architecture) -> Mapping[str, object]:
    """The fields of a ``config.json``, in the words of ``transformers``.

    Raises:
        ConfigError: metadata are missing, malformed, or say what is not supported.
    """
    parameters, (norm_field, norm_key) = facts.parameters, architecture.norm_epsilon
    num_layers, max_positions = facts.num_layers, parameters.integer("context_length")
    config: dict[str, object] = {
        "architectures": [architecture.hf_name],
        "vocab_size": facts.rows(_EMBEDDING),
        "hidden_size": parameters.integer("embedding_length"),
        "num_hidden_layers": num_layers,
        "max_position_embeddings": max_positions,
        "rope_theta": parameters.number("rope.freq_base", architecture.default_rope_theta),
        "tie_word_embeddings": _HEAD not in facts.tensors,
        norm_field: parameters.number(norm_key),
        **_heads(facts, architecture),
        **{name: tensor in facts.tensors for name, tensor in architecture.present.items()},
        **architecture.constants,
        **{name: _read(parameters, key) for name, key in architecture.fields.items()},
    }
    config.setdefault("intermediate_size", parameters.integer("feed_forward_length"))
    parameters.integer("feed_forward_length", 0)  # beside the width of experts, where that is the only one
    config.update(_windows(facts, architecture))
    scaling = read_rope_scaling(parameters, max_positions, facts.numbers)
    if scaling is not None:
        config["rope_scaling"] = {**scaling, **architecture.rope}
    if architecture.finish is not None:
        architecture.finish(facts, config)
    parameters.expect_all_asked()
    return config


def _read(parameters: Hyperparameters, key: Key) -> object:
    default = key.default
    match key.kind:
        case Kind.COUNT:
            return parameters.integer(key.name, None if default is None else int(default))
        case Kind.NUMBER:
            return parameters.number(key.name, default)
        case Kind.FLAG:
            return parameters.flag(key.name, bool(default))
        case Kind.WINDOW:
            return parameters.integer(key.name, None if default is None else int(default)) or None
        case Kind.LIMIT:
            return parameters.number(key.name, default) or None


def _windows(facts: Facts, architecture: Architecture) -> Mapping[str, object]:
    """Which layers have a window, where files say so; those have the rotary embedding of all."""
    parameters = facts.parameters
    if "rope_local_base_freq" not in architecture.fields and parameters.has("rope.freq_base_swa"):
        base = parameters.number("rope.freq_base", architecture.default_rope_theta)
        if parameters.number("rope.freq_base_swa") != base:
            raise parameters.refuse("another 'rope.freq_base_swa' than 'rope.freq_base' is not supported")
    if "sliding_window" not in architecture.fields:
        return {}
    sliding = parameters.flags("attention.sliding_window_pattern", facts.num_layers)
    if sliding is None:
        return {}
    return {"layer_types": ["sliding_attention" if flag else "full_attention" for flag in sliding]}


def _heads(facts: Facts, architecture: Architecture) -> Mapping[str, object]:
    """How many heads there are, of how many elements, and how many of these are turned."""
    parameters = facts.parameters
    num_heads = parameters.integer("attention.head_count")
    if architecture.latent:
        parameters.integer("attention.head_count_kv", num_heads)
        return {"num_attention_heads": num_heads}
    if num_heads < 1:
        raise parameters.refuse(f"'attention.head_count' is {num_heads}")
    of_layers = parameters.integers("attention.head_count_kv", facts.num_layers) or (num_heads,)
    kv_heads = {count for count in of_layers if count or not architecture.layers_without_attention}
    if len(kv_heads) != 1:
        raise parameters.refuse(
            "'attention.head_count_kv' differs from layer to layer, which is not supported"
        )
    head_dim = parameters.integer("attention.key_length", parameters.integer("embedding_length") // num_heads)
    value_dim = parameters.integer("attention.value_length", head_dim)
    turned = parameters.integer("rope.dimension_count", head_dim)
    if value_dim != head_dim:
        raise parameters.refuse(f"values of {value_dim} elements beside keys of {head_dim} are not supported")
    heads = {
        "num_attention_heads": num_heads,
        "num_key_value_heads": kv_heads.pop(),
        "head_dim": head_dim,
    }
    if not architecture.turned_in_part:
        if turned != head_dim:
            raise parameters.refuse(f"heads of {head_dim} of which {turned} are turned are not supported")
        return heads
    if not 0 < turned <= head_dim:
        raise parameters.refuse(f"'rope.dimension_count' {turned} must be within heads of {head_dim}")
    # Just above the quotient, since transformers rounds down what comes of it.
    factor = 1.0 if turned == head_dim else math.nextafter(turned / head_dim, 1.0)
    return {**heads, "partial_rotary_factor": factor}
