"""What a GGUF file's metadata say of single architectures in ways of their own.

Each function finishes the fields of a ``config.json``; :class:`ConfigError` says what is not supported.
"""

from __future__ import annotations

from .facts import Facts

__all__ = [
    "finish_deepseek2",
    "finish_gemma2",
    "finish_glm4moe",
    "finish_granite",
    "finish_lfm2",
    "finish_llama",
]

_SIGMOID = 2
"""Of ``expert_gating_func``; 1 is a softmax."""

_LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}
"""Gemma 2 and 3 of 27B alone scale scores by another width than a head's, which files do not say."""


def finish_llama(facts: Facts, config: dict[str, object]) -> None:
    """Llama, Mistral and Mixtral are one architecture in files."""
    parameters = facts.parameters
    if window := parameters.integer("attention.sliding_window", 0):
        config |= {"architectures": ["MistralForCausalLM"], "sliding_window": window}
    if experts := parameters.integer("expert_count", 0):
        config |= {
            "architectures": ["MixtralForCausalLM"],
            "num_local_experts": experts,
            "num_experts_per_tok": parameters.integer("expert_used_count"),
        }


def finish_gemma2(facts: Facts, config: dict[str, object]) -> None:
    """The width that scores are scaled by."""
    parameters = facts.parameters
    scale = parameters.number("attention.scale", 0.0)
    if scale:
        config["query_pre_attn_scalar"] = scale**-2
    elif config["num_hidden_layers"] == _LAYERS_OF_27B[parameters.architecture]:
        hidden, heads = parameters.integer("embedding_length"), parameters.integer("attention.head_count")
        config["query_pre_attn_scalar"] = hidden / heads
    else:
        config["query_pre_attn_scalar"] = config["head_dim"]


def finish_granite(facts: Facts, config: dict[str, object]) -> None:
    """Granite's multipliers; one that is 0 is none."""
    parameters = facts.parameters
    head_dim = parameters.integer("embedding_length") // parameters.integer("attention.head_count")
    config |= {
        "attention_multiplier": parameters.number("attention.scale", 0.0) or head_dim**-0.5,
        "embedding_multiplier": parameters.number("embedding_scale", 0.0) or 1.0,
        "residual_multiplier": parameters.number("residual_scale", 0.0) or 1.0,
        "logits_scaling": parameters.number("logit_scale", 0.0) or 1.0,
    }


def finish_lfm2(facts: Facts, config: dict[str, object]) -> None:
    """Layers without key and value heads have a convolution."""
    heads = facts.parameters.integers("attention.head_count_kv", facts.num_layers) or ()
    config["layer_types"] = ["full_attention" if count else "conv" for count in heads]


def finish_glm4moe(facts: Facts, config: dict[str, object]) -> None:
    """Layers behind the last guess further tokens; experts are chosen by sigmoids."""
    parameters = facts.parameters
    drafting = parameters.integer("nextn_predict_layers", 0)
    if parameters.integer("expert_gating_func", _SIGMOID) != _SIGMOID:
        raise parameters.refuse("'expert_gating_func' must be 2, a sigmoid")
    config |= {
        "num_hidden_layers": facts.num_layers - drafting,
        "num_nextn_predict_layers": drafting,
        "n_group": parameters.integer("expert_group_count", 1),
        "topk_group": parameters.integer("expert_group_used_count", 1),
    }


def finish_deepseek2(facts: Facts, config: dict[str, object]) -> None:
    """DeepSeek-V2 and V3 are one architecture in files, and the sizes of heads are written in two ways."""
    parameters = facts.parameters
    by_sigmoid = parameters.integer("expert_gating_func", 1) == _SIGMOID
    experts = parameters.integer("expert_count")
    # Files from before there was a key for it: of the models with sigmoids, only V3 itself has groups.
    of_v3 = by_sigmoid and experts == 256
    groups = parameters.integer("expert_group_count", 8 if of_v3 else 1)
    config |= {
        "n_group": groups,
        "topk_group": parameters.integer("expert_group_used_count", 4 if of_v3 else 1),
        "q_lora_rank": parameters.integer("attention.q_lora_rank", 0) or None,
        **_latent_sizes(facts),
    }
    if by_sigmoid:
        config["architectures"] = ["DeepseekV3ForCausalLM"]
    elif groups > 1:
        config["topk_method"] = "group_limited_greedy"
    stretched = parameters.number("rope.scaling.yarn_log_multiplier", 0.0)
    if stretched and isinstance(scaling := config.get("rope_scaling"), dict):
        # The logarithm's factor times 0.1; what it scales cosines by is the same, and cancels.
        weight = round(stretched * 10, 6)
        config["rope_scaling"] = {**scaling, "mscale": weight, "mscale_all_dim": weight}


def _latent_sizes(facts: Facts) -> dict[str, object]:
    parameters = facts.parameters
    key, value = parameters.integer("attention.key_length"), parameters.integer("attention.value_length")
    shared = parameters.integer("rope.dimension_count")
    key = parameters.integer("attention.key_length_mla", key)
    value = parameters.integer("attention.value_length_mla", value)
    if key <= shared:
        raise parameters.refuse(f"heads of {key} have no part beside the {shared} elements that are turned")
    return {
        "num_key_value_heads": parameters.integer("attention.head_count"),
        "qk_rope_head_dim": shared,
        "qk_nope_head_dim": key - shared,
        "v_head_dim": value,
    }
