"""Architectures with mixtures of experts: data, as those in ``dense.py``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .adjustments import finish_deepseek2, finish_glm4moe, finish_granite
from .architecture import Architecture, Key, count, flag, number, window
from .joined_latents import LATENT_PARTS
from .names import ATTENTION, BIASES, EXPERTS, HEAD_NORMS, LAYER, OUTSIDE, SHARED_EXPERT

__all__ = ["MIXTURES"]

_CHOSEN: Mapping[str, Key] = {
    "num_experts": count("expert_count"),
    "num_experts_per_tok": count("expert_used_count"),
}

_CHOSEN_OF_LOCAL: Mapping[str, Key] = {
    "num_local_experts": count("expert_count"),
    "num_experts_per_tok": count("expert_used_count"),
}

_CHOSEN_OF_ROUTED: Mapping[str, Key] = {
    "n_routed_experts": count("expert_count"),
    "num_experts_per_tok": count("expert_used_count"),
    "moe_intermediate_size": count("expert_feed_forward_length"),
    "first_k_dense_replace": count("leading_dense_block_count", 0),
    "n_shared_experts": count("expert_shared_count"),
    "routed_scaling_factor": number("expert_weights_scale", 1.0),
    "norm_topk_prob": flag("expert_weights_norm", False),
}

_CORRECTION = {"exp_probs_b.bias": "mlp.gate.e_score_correction_bias"}


def _shared(name: str) -> dict[str, str]:
    return {there: f"mlp.{name}.{part}" for there, part in SHARED_EXPERT.items()}


MIXTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "qwen2moe": Architecture(
            hf_name="Qwen2MoeForCausalLM",
            layer={
                **LAYER,
                **EXPERTS,
                **_shared("shared_expert"),
                "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
            },
            outside=OUTSIDE,
            fields={
                **_CHOSEN,
                "moe_intermediate_size": count("expert_feed_forward_length"),
                "shared_expert_intermediate_size": count("expert_shared_feed_forward_length"),
            },
            constants={"norm_topk_prob": False},
        ),
        "qwen3moe": Architecture(
            hf_name="Qwen3MoeForCausalLM",
            layer={**LAYER, **HEAD_NORMS, **EXPERTS},
            outside=OUTSIDE,
            fields={**_CHOSEN, "moe_intermediate_size": count("expert_feed_forward_length")},
            present=BIASES,
            constants={"norm_topk_prob": True},
        ),
        "olmoe": Architecture(
            hf_name="OlmoeForCausalLM",
            layer={**LAYER, **HEAD_NORMS, **EXPERTS},
            outside=OUTSIDE,
            fields=_CHOSEN,
            present=BIASES,
            constants={"norm_topk_prob": False},
        ),
        "granitemoe": Architecture(
            hf_name="GraniteMoeForCausalLM",
            layer={
                **LAYER,
                **EXPERTS,
                "ffn_gate_inp": "block_sparse_moe.router.layer",
                "ffn_down_exps.weight": "block_sparse_moe.output_linear.weight",
            },
            outside=OUTSIDE,
            fields=_CHOSEN_OF_LOCAL,
            present=BIASES,
            permuted=True,
            finish=finish_granite,
        ),
        "phimoe": Architecture(
            hf_name="PhimoeForCausalLM",
            layer={
                **LAYER,
                **EXPERTS,
                "ffn_gate_inp": "block_sparse_moe.gate",
                "ffn_down_exps.weight": "block_sparse_moe.experts.down_proj",
            },
            outside=OUTSIDE,
            fields={**_CHOSEN_OF_LOCAL, "sliding_window": window("attention.sliding_window", 0)},
            present={**BIASES, "lm_head_bias": "output.bias"},
            constants={"router_jitter_noise": 0.01},
        ),
        "gpt-oss": Architecture(
            hf_name="GptOssForCausalLM",
            layer={
                **ATTENTION,
                **EXPERTS,
                "post_attention_norm": "post_attention_layernorm",
                "attn_sinks.weight": "self_attn.sinks",
                "ffn_gate_inp": "mlp.router",
                "ffn_gate_exps.bias": "mlp.experts.gate_proj_bias",
                "ffn_up_exps.bias": "mlp.experts.up_proj_bias",
                "ffn_down_exps.bias": "mlp.experts.down_proj_bias",
            },
            outside=OUTSIDE,
            fields={
                **_CHOSEN_OF_LOCAL,
                "intermediate_size": count("expert_feed_forward_length"),
                "sliding_window": window("attention.sliding_window"),
            },
            present={"attention_bias": "blk.0.attn_q.bias"},
            rope={"truncate": False},
        ),
        "glm4moe": Architecture(
            hf_name="Glm4MoeForCausalLM",
            layer={
                **LAYER,
                **HEAD_NORMS,
                **EXPERTS,
                **_CORRECTION,
                **_shared("shared_experts"),
                "post_attention_norm": "post_attention_layernorm",
            },
            outside=OUTSIDE,
            fields=_CHOSEN_OF_ROUTED,
            present={"attention_bias": "blk.0.attn_q.bias", "use_qk_norm": "blk.0.attn_q_norm.weight"},
            turned_in_part=True,
            finish=finish_glm4moe,
        ),
        "deepseek2": Architecture(
            hf_name="DeepseekV2ForCausalLM",
            layer={
                **LAYER,
                **EXPERTS,
                **_CORRECTION,
                **_shared("shared_experts"),
                "attn_q_a": "self_attn.q_a_proj",
                "attn_q_a_norm": "self_attn.q_a_layernorm",
                "attn_q_b": "self_attn.q_b_proj",
                "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
                "attn_kv_a_norm": "self_attn.kv_a_layernorm",
                "attn_kv_b": "self_attn.kv_b_proj",
                **LATENT_PARTS,
            },
            outside=OUTSIDE,
            fields={**_CHOSEN_OF_ROUTED, "kv_lora_rank": count("attention.kv_lora_rank")},
            latent=True,
            finish=finish_deepseek2,
        ),
    }
)
"""By ``general.architecture``."""
