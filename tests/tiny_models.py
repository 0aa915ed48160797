"""Tiny random checkpoints of every architecture, and what ``transformers`` makes of them.

All dimensions of a checkpoint are different numbers, so that code which takes one for another cannot pass:
vocabulary 307, hidden 48, between 80, 4 layers, 6 heads over 2 KV heads of 10 elements. Weights, norms and
biases included, are random and large enough for logits that are not flat.

``torch`` and ``transformers`` are imported when a function is called. From a test in a folder below, import
with ``from ..tiny_models import make_tiny``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "ARCHITECTURES",
    "WHOLE_GROUPS",
    "make_tiny",
    "reference_log_probs",
    "tiny_config",
    "write_tokenizer",
]

ARCHITECTURES = (
    *("cohere", "cohere2", "ernie4_5", "exaone4", "olmo3", "seed_oss"),
    *("gemma3", "mistral3", "qwen3_5", "qwen3_5_moe"),
    *("deepseek_v2", "deepseek_v3", "dots1", "glm4_moe_lite", "youtu"),
    *("gemma", "gemma2", "gemma3_text", "glm", "glm4", "glm4_moe", "gpt_oss", "granite", "granitemoe"),
    *("granitemoehybrid", "granitemoeshared", "lfm2"),
    *("llama", "mistral", "mixtral", "olmo2", "olmoe", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe"),
    *("qwen3", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next", "smollm3", "starcoder2"),
)

_SIZES: dict[str, Any] = {
    "vocab_size": 307,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 300,
    "eos_token_id": 301,
    "pad_token_id": 302,
    "tie_word_embeddings": False,
}

WHOLE_GROUPS: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
"""Overrides with which every matrix divides into groups of 32 and so is quantized; all differ here too."""

_MIXTURE: dict[str, Any] = {
    "num_experts": 7,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 28,
    "shared_expert_intermediate_size": 36,
}

_LATENT: dict[str, Any] = {
    "num_key_value_heads": None,
    "head_dim": 8,
    "q_lora_rank": 22,
    "kv_lora_rank": 26,
    "qk_nope_head_dim": 14,
    "qk_rope_head_dim": 8,
    "v_head_dim": 18,
    "first_k_dense_replace": 1,
    "n_routed_experts": 12,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 28,
    "n_shared_experts": 2,
    "n_group": 4,
    "topk_group": 2,
}

_DELTA: dict[str, Any] = {
    # Where a query hardly fits its key the norm behind it makes much of rounding; this makes less.
    "rms_norm_eps": 1e-4,
    "head_dim": 12,
    "rope_parameters": {"rope_theta": 300.0, "partial_rotary_factor": 0.5},
    "linear_num_value_heads": 9,
    "linear_num_key_heads": 3,
    "linear_key_head_dim": 14,
    "linear_value_head_dim": 11,
    "full_attention_interval": 3,
}

# What makes something of a family's parts, where its defaults would not, or do not fit these sizes.
_OF_FAMILY: dict[str, dict[str, Any]] = {
    "deepseek_v2": {**_LATENT, "routed_scaling_factor": 1.7},
    "deepseek_v3": _LATENT,
    "dots1": {
        **{name: value for name, value in _LATENT.items() if name not in ("head_dim", "num_key_value_heads")},
        "sliding_window": 9,
        "max_window_layers": 2,
    },
    "glm4_moe_lite": {**_LATENT, "num_key_value_heads": 6},
    # transformers makes the padding's row of the embedding zeros when it loads this one.
    "youtu": {**_LATENT, "num_key_value_heads": 6, "pad_token_id": None},
    # Command R's heads share the hidden size; heads of all families here are even.
    "cohere": {"head_dim": 8, "logit_scale": 0.7},
    "cohere2": {"logit_scale": 0.7, "sliding_window": 9, "sliding_window_pattern": 3},
    "exaone4": {"sliding_window": 9, "sliding_window_pattern": 3},
    "olmo3": {"head_dim": 8, "sliding_window": 9},
    "gemma2": {
        "query_pre_attn_scalar": 19,
        "attn_logit_softcapping": 2.5,
        "final_logit_softcapping": 7.0,
        "sliding_window": 9,
    },
    "gemma3_text": {"query_pre_attn_scalar": 19, "sliding_window": 9, "sliding_window_pattern": 3},
    "glm": {"head_dim": 16},
    "glm4": {"head_dim": 16},
    "glm4_moe": {
        **_MIXTURE,
        "n_routed_experts": 12,
        "n_group": 4,
        "topk_group": 2,
        "head_dim": 12,
        "routed_scaling_factor": 1.7,
    },
    "gpt_oss": {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": 9, "swiglu_limit": 0.5},
    "granitemoe": {
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.4,
        "residual_multiplier": 0.7,
        "logits_scaling": 1.3,
    },
    "granitemoeshared": {"num_local_experts": 5, "shared_intermediate_size": 68},
    "granite": {
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.4,
        "residual_multiplier": 0.7,
        "logits_scaling": 1.3,
    },
    "mixtral": {"num_local_experts": 5, "num_experts_per_tok": 2},
    "olmoe": {"num_experts": 7, "num_experts_per_tok": 3, "head_dim": 8},
    "phimoe": {"num_local_experts": 5, "router_jitter_noise": 0.2, "head_dim": 8},
    "granitemoehybrid": {
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.4,
        "residual_multiplier": 0.7,
        "logits_scaling": 1.3,
        "num_local_experts": 0,
        "shared_intermediate_size": 80,
        "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
        "mamba_n_heads": 8,
        "mamba_d_state": 14,
        "mamba_chunk_size": 16,
    },
    "lfm2": {
        "layer_types": ["conv", "full_attention", "conv", "conv"],
        "block_auto_adjust_ff_dim": False,
    },
    "phi": {"rope_parameters": {"rope_theta": 300.0, "partial_rotary_factor": 0.4}},
    "phi3": {
        "original_max_position_embeddings": 128,
    },
    "qwen2_moe": _MIXTURE,
    "qwen3_5_moe_text": {**_MIXTURE, **_DELTA},
    "qwen3_5_text": _DELTA,
    "qwen3_moe": _MIXTURE,
    "qwen3_next": {**_MIXTURE, **_DELTA},
    "smollm3": {"no_rope_layer_interval": 3},
}

_TEXT_PARTS = {
    "gemma3": "gemma3_text",
    "mistral3": "mistral",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
}
"""Architectures that take images besides, and that of their text's part."""

_VISION: dict[str, dict[str, Any]] = {
    "gemma3": {"hidden_size": 32, "intermediate_size": 36, "num_attention_heads": 4, "num_hidden_layers": 1},
    "mistral3": {
        "hidden_size": 32,
        "intermediate_size": 36,
        "num_attention_heads": 4,
        "num_hidden_layers": 1,
    },
    "qwen3_5": {
        "hidden_size": 32,
        "intermediate_size": 36,
        "num_heads": 4,
        "depth": 1,
        "out_hidden_size": 48,
    },
}
_VISION["qwen3_5_moe"] = _VISION["qwen3_5"]

_CLASSES = {
    "gemma3": ("Gemma3Config", "Gemma3ForConditionalGeneration"),
    "mistral3": ("Mistral3Config", "Mistral3ForConditionalGeneration"),
    "qwen3_5": ("Qwen3_5Config", "Qwen3_5ForConditionalGeneration"),
    "qwen3_5_moe": ("Qwen3_5MoeConfig", "Qwen3_5MoeForConditionalGeneration"),
    "deepseek_v2": ("DeepseekV2Config", "DeepseekV2ForCausalLM"),
    "deepseek_v3": ("DeepseekV3Config", "DeepseekV3ForCausalLM"),
    "dots1": ("Dots1Config", "Dots1ForCausalLM"),
    "glm4_moe_lite": ("Glm4MoeLiteConfig", "Glm4MoeLiteForCausalLM"),
    "youtu": ("YoutuConfig", "YoutuForCausalLM"),
    "cohere": ("CohereConfig", "CohereForCausalLM"),
    "cohere2": ("Cohere2Config", "Cohere2ForCausalLM"),
    "ernie4_5": ("Ernie4_5Config", "Ernie4_5ForCausalLM"),
    "exaone4": ("Exaone4Config", "Exaone4ForCausalLM"),
    "olmo3": ("Olmo3Config", "Olmo3ForCausalLM"),
    "seed_oss": ("SeedOssConfig", "SeedOssForCausalLM"),
    "gemma": ("GemmaConfig", "GemmaForCausalLM"),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM"),
    "gemma3_text": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
    "glm": ("GlmConfig", "GlmForCausalLM"),
    "glm4": ("Glm4Config", "Glm4ForCausalLM"),
    "glm4_moe": ("Glm4MoeConfig", "Glm4MoeForCausalLM"),
    "gpt_oss": ("GptOssConfig", "GptOssForCausalLM"),
    "granitemoe": ("GraniteMoeConfig", "GraniteMoeForCausalLM"),
    "granite": ("GraniteConfig", "GraniteForCausalLM"),
    "granitemoehybrid": ("GraniteMoeHybridConfig", "GraniteMoeHybridForCausalLM"),
    "granitemoeshared": ("GraniteMoeSharedConfig", "GraniteMoeSharedForCausalLM"),
    "lfm2": ("Lfm2Config", "Lfm2ForCausalLM"),
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
    "mistral": ("MistralConfig", "MistralForCausalLM"),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM"),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM"),
    "olmoe": ("OlmoeConfig", "OlmoeForCausalLM"),
    "phimoe": ("PhimoeConfig", "PhimoeForCausalLM"),
    "phi": ("PhiConfig", "PhiForCausalLM"),
    "phi3": ("Phi3Config", "Phi3ForCausalLM"),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
    "qwen2_moe": ("Qwen2MoeConfig", "Qwen2MoeForCausalLM"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
    "qwen3_5_moe_text": ("Qwen3_5MoeTextConfig", "Qwen3_5MoeForCausalLM"),
    "qwen3_5_text": ("Qwen3_5TextConfig", "Qwen3_5ForCausalLM"),
    "qwen3_next": ("Qwen3NextConfig", "Qwen3NextForCausalLM"),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM"),
    "smollm3": ("SmolLM3Config", "SmolLM3ForCausalLM"),
    "starcoder2": ("Starcoder2Config", "Starcoder2ForCausalLM"),
}

_LESS_ONE = ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")
"""Architectures whose norms' weights are stored less one, and twice as large would make attention so sharp
and logits so steep that transformers itself is further than 1e-4 from what it gives in float64."""

_SPECIAL_TOKENS = {300: "<|begin|>", 301: "<|end|>", 302: "<|pad|>"}

_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def make_tiny(
    architecture: str,
    parent: Path,
    *,
    dtype: str = "float32",
    shard_size: str | None = None,
    seed: int = 0,
    **overrides: Any,
) -> Path:
    """Make a checkpoint below ``parent`` and return its folder, or the one made before by the same arguments.

    Args:
        architecture: one of :data:`ARCHITECTURES`.
        parent: where folders are made, such as ``tmp_path_factory.getbasetemp()`` for one a session.
        dtype: of the weights on disk.
        shard_size: bytes a shard, such as ``"40KB"``; ``None`` is one file.
        seed: of the weights.
        overrides: fields of the architecture's configuration class in ``transformers``.
    """
    import torch
    import transformers

    sizes = _sizes_of(architecture, overrides)
    described = json.dumps([architecture, dtype, shard_size, seed, sizes], sort_keys=True, default=str)
    folder = parent / f"tiny-{architecture}-{hashlib.sha256(described.encode()).hexdigest()[:10]}"
    if (folder / "config.json").is_file():
        return folder
    config_class, model_class = (getattr(transformers, name) for name in _CLASSES[architecture])
    model = model_class(config_class(**sizes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                less_one = (
                    _TEXT_PARTS.get(architecture, architecture) in _LESS_ONE and "linear_attn" not in name
                )
                parameter.copy_(0.3 * noise if less_one else 1 + 0.3 * noise)
            else:
                parameter.copy_(noise * (0.3 if parameter.dim() == 1 else 0.15))
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
    model.to(getattr(torch, dtype))
    model.save_pretrained(folder, **({} if shard_size is None else {"max_shard_size": shard_size}))
    write_tokenizer(folder)
    return folder


def tiny_config(architecture: str, **overrides: Any) -> dict[str, Any]:
    """What ``config.json`` says of a checkpoint of :func:`make_tiny`, which need not be made for that."""
    import transformers

    config_name, model_name = _CLASSES[architecture]
    config = getattr(transformers, config_name)(**_sizes_of(architecture, overrides))
    return {**config.to_dict(), "architectures": [model_name]}


def _sizes_of(architecture: str, overrides: dict[str, Any]) -> dict[str, Any]:
    sizes = {**_SIZES, **_OF_FAMILY.get(_TEXT_PARTS.get(architecture, architecture), {}), **overrides}
    if architecture not in _TEXT_PARTS:
        return sizes
    text = {"model_type": _TEXT_PARTS[architecture], **sizes}
    tied = sizes["tie_word_embeddings"]
    return {"text_config": text, "vision_config": _VISION[architecture], "tie_word_embeddings": tied}


def write_tokenizer(folder: Path) -> None:
    """Put a byte-level BPE tokenizer of 303 tokens beside a checkpoint, with a chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("t", "h"),
        ("th", "e"),
        ("a", "n"),
        ("i", "n"),
        ("e", "r"),
        ("o", "n"),
        ("Ġ", "the"),
        ("Ġ", "a"),
    ]
    tokens = [*alphabet, *("".join(pair) for pair in merges)]
    tokens += [f"<|unused {number}|>" for number in range(300 - len(tokens))]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in _SPECIAL_TOKENS.values()])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "chat_template": _CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def reference_log_probs(
    folder: Path, token_ids: Sequence[int], *, stepwise: bool = False
) -> npt.NDArray[np.float32]:
    """Log-probabilities after each token, float32 ``[tokens, vocab]``, by ``transformers`` in float32.

    ``stepwise`` decodes token by token with a cache, in place of one pass over the whole.
    """
    import torch
    import transformers

    (architecture,) = json.loads((folder / "config.json").read_text())["architectures"]
    takes_images = architecture.endswith("ForConditionalGeneration")
    kind = transformers.AutoModelForImageTextToText if takes_images else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.tensor([list(token_ids)])
    with torch.no_grad():
        if stepwise:
            cache = transformers.DynamicCache(config=model.config)
            steps = [
                model(ids[:, i : i + 1], past_key_values=cache, use_cache=True).logits
                for i in range(ids.shape[1])
            ]
            logits = torch.cat(steps, dim=1)
        else:
            logits = model(ids).logits
        return np.asarray(torch.log_softmax(logits[0].float(), dim=-1).numpy(), np.float32)
