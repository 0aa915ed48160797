"""A tiny configuration for any causal language model of transformers: sizes by the names of fields.

What a field is called differs from model to model; its meaning does not. What a model needs besides stands in
one table by its ``model_type``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["causal_models", "tiny_config"]

_HIDDEN, _HEADS, _KV_HEADS, _HEAD_DIM, _WIDE = 96, 6, 2, 16, 160
_NOTHING_SHARED = {"num_kv_shared_layers": 0}
_MLA = {"head_dim": 8, "num_key_value_heads": 6}
_MAMBA2 = {"mamba_n_heads": 12, "mamba_d_head": 16, "mamba_d_state": 10, "mamba_n_groups": 2}
_MAMBA = {"state_size": 10, "time_step_rank": 7}
_GEMMA4 = {
    **_NOTHING_SHARED, "hidden_size_per_layer_input": 12, "vocab_size_per_layer_input": 307, "head_dim": 16,
    "num_key_value_heads": 2, "global_head_dim": 24, "top_k_experts": 2,
}  # fmt: skip

_DEFAULT: Any = object()
"""A field that keeps its default."""

_SWA = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 28,
    "kv_lora_rank": 32,
    "head_dim": 22,
    "qk_nope_head_dim": 14,
    "v_head_dim": 18,
}

_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size", "word_embed_proj_dim"), _HIDDEN),
    **dict.fromkeys(("dim_model", "emb_dim", "embed_dim", "input_embedding_size"), _HIDDEN),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads"), _HEADS),
    **dict.fromkeys(("encoder_attention_heads", "num_decoder_attention_heads"), _HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "multi_query_group_num"), _KV_HEADS),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim"), _WIDE),
    **dict.fromkeys(("dff", "d_ff", "dim_ff", "shared_intermediate_size", "decoder_ffn_embed_dim"), _WIDE),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("decoder_layers", "encoder_layers", "num_decoder_layers", "num_encoder_layers"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size"), 64),
    "shared_expert_intermediate_size": 192,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
    "head_dim": _HEAD_DIM,
    "rotary_dim": 8,
    "rotary_ndims": 8,
    "kv_channels": _HEAD_DIM,
    "q_lora_rank": 20,
    "kv_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "qk_head_dim": 20,
    "v_head_dim": 16,
    "vocab_size": 307,
    "bos_token_id": 300,
    "eos_token_id": 301,
    "pad_token_id": 1,
    "sliding_window": 9,
    "use_cache": False,
    "is_decoder": True,
    "scale_embedding": True,
}

_OVERRIDES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite"), _MLA),
    **dict.fromkeys(("glm_moe_dsa", "longcat_flash", "minicpm3", "youtu", "kimi_linear"), _MLA),
    "codegen": {"n_embd": 128, "hidden_size": 128, "n_head": 8, "num_attention_heads": 8},
    "prophetnet": {"num_hidden_layers": _DEFAULT, "num_encoder_layers": 2, "num_decoder_layers": 2},
    "xlm": {"causal": True},
    "xlnet": {"max_position_embeddings": _DEFAULT},
    "zamba": {
        "num_hidden_layers": 3,
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
        "n_mamba_heads": 2,
        "mamba_d_state": 10,
        "mamba_dt_rank": 7,
        "attention_head_dim": 32,
        "num_key_value_heads": 6,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid"],
        "n_mamba_heads": 12,
        "mamba_d_state": 10,
        "mamba_ngroups": 2,
        "num_key_value_heads": 6,
    },
    "zaya": {"num_experts_per_tok": 1},
    "bamba": {**_MAMBA2, "attn_layer_indices": [1], "num_logits_to_keep": None},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 192},
    "mamba2": {"num_heads": 12, "head_dim": 16, "state_size": 10, "n_groups": 2},
    **dict.fromkeys(("mamba", "falcon_mamba"), _MAMBA),
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0}},
    "xmod": {"default_language": "en_XX"},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 9},
    "gemma3n_text": _NOTHING_SHARED,
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text"), _GEMMA4),
    "lfm2_moe": {"layer_types": ["full_attention", "conv"], "num_dense_layers": 1},
    "lfm2": {"layer_types": ["full_attention", "conv"]},
    "cohere_compass_text": {
        "layer_types": ["full_attention"] * 2,
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}},
    },
    "granitemoehybrid": {"layer_types": ["attention", "mamba"], **_MAMBA2},
    "dots3_note_vision_encoder": {
        "num_hidden_layers": _DEFAULT,
        "adapter_in_dim": _HIDDEN,
        "adapter_out_dim": _HIDDEN,
    },
    "dots3_note_audio_encoder": {"adapter_input_size": _HIDDEN, "adapter_out_dim": _HIDDEN},
    "minimax": {"layer_types": ["linear_attention", "full_attention"]},
    "recurrent_gemma": {"layers_block_type": ["linear_attention", "sliding_attention"], "lru_width": 96},
    "mimo_v2_flash": {"layer_types": ["full_attention", "sliding_attention"], "num_key_value_heads": 1},
    "reformer": {"axial_pos_embds_dim": (32, 64), "axial_pos_shape": (8, 16)},
    "dots3_note_text": {
        **_MLA,
        "num_attention_heads": 6,
        "q_lora_rank": 20,
        "kv_lora_rank": 24,
        "qk_nope_head_dim": 12,
        "v_head_dim": 16,
        "qk_rope_head_dim": 8,
        **{f"swa_{name}": size for name, size in _SWA.items()},
    },
}
"""What a model's own classes ask for."""


def causal_models() -> dict[str, str]:
    """The class of each ``model_type`` that transformers builds causal language models of."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(model_type: str) -> Any:
    """A configuration whose model takes a moment: every size that has a known name is small."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return _shrink(CONFIG_MAPPING[model_type])


def _shrink(config_class: Any) -> Any:
    default = config_class()
    overrides = _OVERRIDES.get(config_class.model_type, {})
    chosen = {name: size for name, size in _SIZES.items() if _is_size(default, name)}
    for name in getattr(config_class, "sub_configs", {}):
        if getattr(default, name, None) is not None:
            chosen[name] = _shrink(type(getattr(default, name))).to_dict()
    chosen.update(overrides)
    chosen = {name: value for name, value in chosen.items() if value is not _DEFAULT}
    while True:
        try:
            return config_class(**chosen)
        except (TypeError, ValueError, AttributeError) as error:
            # A field that may not be set, or that contradicts others, is named by the message.
            named = [name for name in chosen if name in str(error)]
            if not named:
                raise
            del chosen[named[-1]]


def _is_size(config: Any, name: str) -> bool:
    """Whether a field is there and holds a number, or may; a pattern by layer is left alone."""
    try:
        value = getattr(config, name)
    except Exception:  # some differ by layer, and say so each in its own way
        return False
    return value is None or isinstance(value, int | float)
