"""Architectures without experts, and Llama's, which may have some: data.

Names and keys are those that llama.cpp's conversion writes; fields beside them are those of ``transformers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from .adjustments import finish_gemma2, finish_granite, finish_lfm2, finish_llama
from .architecture import Architecture, count, limit, number, window
from .names import ATTENTION, BIASES, EXPERTS, HEAD_NORMS, LAYER, OUTSIDE

__all__ = ["DENSE"]

_LAYER_NORM = "attention.layer_norm_epsilon"

_GEMMA_2_LAYER = {
    **LAYER,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}

_GEMMA = Architecture(
    hf_name="GemmaForCausalLM", layer=LAYER, outside=OUTSIDE, present=BIASES, whole_norms=True
)

DENSE: Mapping[str, Architecture] = MappingProxyType(
    {
        "llama": Architecture(
            hf_name="LlamaForCausalLM",
            layer={
                **LAYER,
                **EXPERTS,
                # Where there are experts, it is Mixtral; the first files had a tensor for each of them.
                "ffn_gate_inp": "block_sparse_moe.gate",
                "ffn_down_exps.weight": "block_sparse_moe.experts.down_proj",
                "ffn_gate.{expert}": "block_sparse_moe.experts.{expert}.w1",
                "ffn_up.{expert}": "block_sparse_moe.experts.{expert}.w3",
                "ffn_down.{expert}": "block_sparse_moe.experts.{expert}.w2",
            },
            outside=OUTSIDE,
            present=BIASES,
            permuted=True,
            finish=finish_llama,
        ),
        "qwen2": Architecture(hf_name="Qwen2ForCausalLM", layer=LAYER, outside=OUTSIDE),
        "qwen3": Architecture(
            hf_name="Qwen3ForCausalLM", layer={**LAYER, **HEAD_NORMS}, outside=OUTSIDE, present=BIASES
        ),
        "gemma": _GEMMA,
        "gemma2": replace(
            _GEMMA,
            hf_name="Gemma2ForCausalLM",
            layer=_GEMMA_2_LAYER,
            fields={
                "sliding_window": window("attention.sliding_window"),
                "attn_logit_softcapping": limit("attn_logit_softcapping", 50.0),
                "final_logit_softcapping": limit("final_logit_softcapping", 30.0),
            },
            finish=finish_gemma2,
        ),
        "gemma3": replace(
            _GEMMA,
            hf_name="Gemma3ForCausalLM",
            layer={**_GEMMA_2_LAYER, **HEAD_NORMS},
            fields={
                "sliding_window": window("attention.sliding_window"),
                "rope_local_base_freq": number("rope.freq_base_swa", 10_000.0),
                "final_logit_softcapping": limit("final_logit_softcapping", 0.0),
            },
            default_rope_theta=1_000_000.0,
            finish=finish_gemma2,
        ),
        "phi2": Architecture(
            hf_name="PhiForCausalLM",
            layer={
                **ATTENTION,
                "attn_output": "self_attn.dense",
                "ffn_up": "mlp.fc1",
                "ffn_down": "mlp.fc2",
            },
            outside={**OUTSIDE, "output_norm": "model.final_layernorm"},
            norm_epsilon=("layer_norm_eps", _LAYER_NORM),
            turned_in_part=True,
        ),
        "phi3": Architecture(
            hf_name="Phi3ForCausalLM",
            layer={**LAYER, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
            outside=OUTSIDE,
            fields={"sliding_window": window("attention.sliding_window", 0)},
            turned_in_part=True,
        ),
        "starcoder2": Architecture(
            hf_name="Starcoder2ForCausalLM",
            layer={**LAYER, "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
            outside=OUTSIDE,
            norm_epsilon=("norm_epsilon", _LAYER_NORM),
            fields={"sliding_window": window("attention.sliding_window", 0)},
            present={"use_bias": "blk.0.attn_q.bias"},
        ),
        "granite": Architecture(
            hf_name="GraniteForCausalLM",
            layer=LAYER,
            outside=OUTSIDE,
            present=BIASES,
            permuted=True,
            finish=finish_granite,
        ),
        "glm4": Architecture(
            hf_name="Glm4ForCausalLM",
            layer={
                **LAYER,
                "post_attention_norm": "post_self_attn_layernorm",
                "post_ffw_norm": "post_mlp_layernorm",
                "ffn_up": "mlp.gate_up_proj",
            },
            outside=OUTSIDE,
            present=BIASES,
            turned_in_part=True,
        ),
        "olmo2": Architecture(
            hf_name="Olmo2ForCausalLM",
            layer={
                **LAYER,
                **HEAD_NORMS,
                "post_attention_norm": "post_attention_layernorm",
                "post_ffw_norm": "post_feedforward_layernorm",
            },
            outside=OUTSIDE,
            present=BIASES,
        ),
        "smollm3": Architecture(
            hf_name="SmolLM3ForCausalLM", layer=LAYER, outside=OUTSIDE, present=BIASES, permuted=True
        ),
        "lfm2": Architecture(
            hf_name="Lfm2ForCausalLM",
            layer={
                **ATTENTION,
                "attn_norm": "operator_norm",
                "attn_output": "self_attn.out_proj",
                "attn_q_norm": "self_attn.q_layernorm",
                "attn_k_norm": "self_attn.k_layernorm",
                "shortconv.in_proj": "conv.in_proj",
                "shortconv.conv": "conv.conv",
                "shortconv.out_proj": "conv.out_proj",
                "ffn_norm": "ffn_norm",
                "ffn_gate": "feed_forward.w1",
                "ffn_up": "feed_forward.w3",
                "ffn_down": "feed_forward.w2",
            },
            # The norm behind the last layer goes by a name for one of embeddings.
            outside={
                **OUTSIDE,
                "token_embd_norm": "model.embedding_norm",
                "output_norm": "model.embedding_norm",
            },
            norm_epsilon=("norm_eps", "attention.layer_norm_rms_epsilon"),
            fields={"conv_L_cache": count("shortconv.l_cache")},
            present={"conv_bias": "blk.0.shortconv.conv.bias"},
            constants={"block_auto_adjust_ff_dim": False},
            layers_without_attention=True,
            finish=finish_lfm2,
        ),
    }
)
"""By ``general.architecture``."""
