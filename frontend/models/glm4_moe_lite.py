"""GLM-4.7-Flash (Zhipu AI, 2026): DeepSeek-V3's form, its latent attention included, with GLM's sizes."""

from __future__ import annotations

from collections.abc import Mapping

from ..configs import DecoderConfig, Fields
from .decoder import build_decoder
from .deepseek_v3 import read_deepseek_v3
from .family import Family

__all__ = ["FAMILY"]

_DENSE, _SPARSE = "dense", "sparse"


def _from_hf(config: Mapping[str, object]) -> DecoderConfig:
    fields = Fields(config)
    defaults: dict[str, object] = {
        "first_k_dense_replace": _num_dense(fields),
        "kv_lora_rank": 512,
        "max_position_embeddings": 202_752,
        "moe_intermediate_size": 1536,
        "n_group": 1,
        "n_routed_experts": 64,
        "num_experts_per_tok": 4,
        "num_key_value_heads": fields.integer("num_attention_heads"),
        "q_lora_rank": 768,
        "qk_nope_head_dim": 192,
        "qk_rope_head_dim": 64,
        "rms_norm_eps": 1e-5,
        "routed_scaling_factor": 1.8,
        "topk_group": 1,
        "v_head_dim": 256,
    }
    own = {name: value for name, value in config.items() if name != "first_k_dense_replace"}
    return read_deepseek_v3(Fields({**defaults, **own}), model_type="glm4_moe_lite")


def _num_dense(fields: Fields) -> int:
    """Layers before the first mixture: one, unless ``mlp_layer_types`` says otherwise."""
    types = fields.texts("mlp_layer_types")
    if types is None:
        return 1
    num_dense = types.count(_DENSE)
    expected = (_DENSE,) * num_dense + (_SPARSE,) * (len(types) - num_dense)
    if types != expected or len(types) != fields.integer("num_hidden_layers"):
        raise fields.refuse(
            f"'mlp_layer_types' must name each layer, all {_DENSE} before all {_SPARSE}, not {list(types)}"
        )
    return num_dense


FAMILY = Family(_from_hf, build_decoder)
