"""Names of tensors that many architectures share: those of checkpoints by those of GGUF files."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ATTENTION", "BIASES", "EXPERTS", "HEAD_NORMS", "LAYER", "OUTSIDE", "SHARED_EXPERT"]

OUTSIDE: Mapping[str, str] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}

ATTENTION: Mapping[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}

HEAD_NORMS: Mapping[str, str] = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}

LAYER: Mapping[str, str] = {
    **ATTENTION,
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

EXPERTS: Mapping[str, str] = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps.weight": "mlp.experts.gate_proj",
    "ffn_up_exps.weight": "mlp.experts.up_proj",
    "ffn_down_exps.weight": "mlp.experts.down_proj",
}
"""A router, and the projections of all experts in one tensor each."""

SHARED_EXPERT: Mapping[str, str] = {
    "ffn_gate_shexp": "gate_proj",
    "ffn_up_shexp": "up_proj",
    "ffn_down_shexp": "down_proj",
}
"""The expert of all tokens, within what a checkpoint calls it."""

BIASES: Mapping[str, str] = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"}
"""Flags of a ``config.json``, and the tensors that are there where they are set."""
