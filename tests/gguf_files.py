"""Tiny checkpoints written as GGUF files by the ``gguf`` package, as llama.cpp's conversion would write them.

Names come from that package's own maps, so that they are a witness of ours. What no map says (which rows
change places, which norms gain one, what is stacked or parted) is written down here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from ingot.frontend.weights import open_weights
from ingot.ir import find_format, pack_blocks, quantize

__all__ = ["GGUF_ARCHITECTURES", "Choice", "round_checkpoint", "write_gguf"]

GGUF_ARCHITECTURES = {
    "deepseek_v2": "deepseek2",
    "deepseek_v3": "deepseek2",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "glm4": "glm4",
    "glm4_moe": "glm4moe",
    "gpt_oss": "gpt-oss",
    "granite": "granite",
    "granitemoe": "granitemoe",
    "lfm2": "lfm2",
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "llama",
    "olmo2": "olmo2",
    "olmoe": "olmoe",
    "phi": "phi2",
    "phi3": "phi3",
    "phimoe": "phimoe",
    "qwen2": "qwen2",
    "qwen2_moe": "qwen2moe",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "smollm3": "smollm3",
    "starcoder2": "starcoder2",
}
"""What files call the architectures of :mod:`tiny_models`."""

_PERMUTED = {"llama", "mistral", "mixtral", "granite", "granitemoe", "smollm3"}
_NORMS_WITH_ONE = {"gemma", "gemma2", "gemma3_text"}
_STACKED = {"w1": "gate", "w3": "up", "w2": "down", "gate_proj": "gate", "up_proj": "up", "down_proj": "down"}

Array = npt.NDArray[np.generic]
Choice = Callable[[str, tuple[int, ...]], str]
"""The type to write a tensor in, by its name and shape."""


def write_gguf(
    folder: Path,
    path: Path,
    *,
    choose: Choice = lambda name, shape: "F32",
    tensors_a_file: int = 0,
    without: tuple[str, ...] = (),
    **metadata: Any,
) -> Path:
    """Write the checkpoint in ``folder`` as a GGUF file at ``path``, and return that.

    ``choose`` says in which type; vectors are always float32. With ``tensors_a_file`` it is split. Keys in
    ``without`` are left out, those in ``metadata`` (with ``__`` for dots, below the architecture's name) are
    put in or changed.
    """
    import gguf

    config = json.loads((folder / "config.json").read_text())
    model_type = config["model_type"]
    architecture = GGUF_ARCHITECTURES[model_type]
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=tensors_a_file)
    values = {**_metadata(config), **{key.replace("__", "."): value for key, value in metadata.items()}}
    for key, value in values.items():
        if value is not None and key not in without:
            _add(writer, f"{architecture}.{key}", value)
    _write_tokenizer(writer, folder)
    for name, array in _tensors(folder, config):
        kind = "F32" if array.ndim == 1 else choose(name, array.shape)
        writer.add_tensor(name, encode(array, kind), raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def encode(array: Array, kind: str) -> Array:
    """``array`` in a type of files: by the ``gguf`` package where it rounds to it, else by ingot."""
    import gguf

    try:
        return gguf.quants.quantize(array.astype(np.float32), gguf.GGMLQuantizationType[kind])
    except NotImplementedError:
        return pack_blocks(quantize(array.astype(np.float32), find_format(kind.lower())))


def round_checkpoint(folder: Path, rounded: Path, choose: Choice) -> Path:
    """A copy of the checkpoint in ``folder``, its matrices what files of these types hold.

    It is by the ``gguf`` package. Rows are rounded apart from each other: their order does not matter.
    """
    import gguf
    from safetensors.numpy import save_file

    shutil.copytree(folder, rounded)
    config = json.loads((folder / "config.json").read_text())
    weights, names = open_weights(folder), _names(config)
    tensors = {}
    for name in weights.names:
        array = np.asarray(weights.read(name), np.float32)
        if array.ndim == 2:
            kind = choose(names.get_name(name, try_suffixes=(".weight",)), array.shape)
            array = gguf.quants.dequantize(encode(array, kind), gguf.GGMLQuantizationType[kind])
        tensors[name] = array
    save_file(tensors, rounded / "model.safetensors", metadata={"format": "pt"})
    return rounded


def _names(config: Mapping[str, Any]) -> Any:
    """The ``gguf`` package's map of names for a model."""
    import gguf

    architecture = next(
        key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == GGUF_ARCHITECTURES[config["model_type"]]
    )
    return gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _metadata(config: Mapping[str, Any]) -> dict[str, Any]:
    rope = config.get("rope_parameters") or {}
    if "full_attention" in rope:
        rope = rope["full_attention"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    turned = int(head_dim * rope.get("partial_rotary_factor", 1.0))
    common = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads") or heads,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": config.get("rms_norm_eps", config.get("norm_eps")),
        "rope.freq_base": float(rope.get("rope_theta", 10_000.0)),
        "rope.dimension_count": turned,
        "vocab_size": config["vocab_size"],
        "expert_count": next(
            (config[n] for n in ("n_routed_experts", "num_experts", "num_local_experts") if config.get(n)),
            None,
        ),
        "expert_used_count": config.get("num_experts_per_tok"),
    }
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        common |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    if kind in ("yarn", "longrope"):
        common["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    return {**common, **_metadata_of(config, rope)}


def _metadata_of(config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
    """What single architectures have beside the common."""
    layer_norm = {"attention.layer_norm_rms_epsilon": None}
    match config["model_type"]:
        case "gemma2":
            return {
                "attention.sliding_window": config["sliding_window"],
                "attn_logit_softcapping": config["attn_logit_softcapping"],
                "final_logit_softcapping": config["final_logit_softcapping"],
                "rope.dimension_count": None,
            }
        case "gemma3_text":
            pattern = [kind == "sliding_attention" for kind in config["layer_types"]]
            return {
                "attention.sliding_window": config["sliding_window"],
                "attention.sliding_window_pattern": pattern,
            }
        case "phi":
            return {"attention.layer_norm_epsilon": config["layer_norm_eps"], **layer_norm}
        case "phi3" | "phimoe":
            return {"attention.sliding_window": config.get("sliding_window") or 0}
        case "starcoder2":
            return {"attention.layer_norm_epsilon": config["norm_epsilon"], **layer_norm}
        case "granite" | "granitemoe":
            return {
                "attention.scale": config["attention_multiplier"],
                "embedding_scale": config["embedding_multiplier"],
                "residual_scale": config["residual_multiplier"],
                "logit_scale": config["logits_scaling"],
            }
        case "lfm2":
            heads = config["num_key_value_heads"]
            kinds = config["layer_types"]
            return {
                "attention.head_count_kv": [heads if kind == "full_attention" else 0 for kind in kinds],
                "shortconv.l_cache": config["conv_L_cache"],
            }
        case "qwen2_moe":
            return {
                "expert_feed_forward_length": config["moe_intermediate_size"],
                "expert_shared_feed_forward_length": config["shared_expert_intermediate_size"],
            }
        case "qwen3_moe":
            return {"expert_feed_forward_length": config["moe_intermediate_size"]}
        case "gpt_oss":
            return {
                "attention.sliding_window": config["sliding_window"],
                "expert_feed_forward_length": config["intermediate_size"],
            }
        case "glm4_moe":
            return {**_routed(config), "expert_gating_func": 2, "nextn_predict_layers": 0}
        case "deepseek_v2" | "deepseek_v3":
            shared = config["qk_rope_head_dim"]
            weight = rope.get("mscale_all_dim")
            return {
                **_routed(config),
                "expert_gating_func": 2 if config["model_type"] == "deepseek_v3" else 1,
                "attention.head_count_kv": 1,
                "attention.q_lora_rank": config["q_lora_rank"],
                "attention.kv_lora_rank": config["kv_lora_rank"],
                "attention.key_length": config["kv_lora_rank"] + shared,
                "attention.value_length": config["kv_lora_rank"],
                "attention.key_length_mla": config["qk_nope_head_dim"] + shared,
                "attention.value_length_mla": config["v_head_dim"],
                "rope.dimension_count": shared,
                "rope.scaling.yarn_log_multiplier": None if weight is None else 0.1 * weight,
            }
    return {}


def _routed(config: Mapping[str, Any]) -> dict[str, Any]:
    grouped = config.get("topk_method") != "greedy"
    return {
        "expert_feed_forward_length": config["moe_intermediate_size"],
        "expert_shared_count": config["n_shared_experts"],
        "leading_dense_block_count": config["first_k_dense_replace"],
        "expert_weights_scale": float(config["routed_scaling_factor"]),
        "expert_weights_norm": bool(config.get("norm_topk_prob", False)),
        "expert_group_count": config["n_group"] if grouped else None,
        "expert_group_used_count": config["topk_group"] if grouped else None,
    }


def _tensors(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """Names and values as the conversion writes them."""
    names = _names(config)
    yield from _rope_factors(config)
    for name, array in _as_converted(folder, config):
        if name.startswith("blk."):
            yield name, array
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, f"the gguf package has no name for {name}"
        yield found, array


def _rope_factors(config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type") == "llama3":
        from ingot.frontend.configs import Fields, read_rope

        plain, stretched = (
            read_rope(Fields(fields), config["max_position_embeddings"]).inverse_frequencies(
                config["head_dim"]
            )
            for fields in ({"rope_theta": rope["rope_theta"]}, config)
        )
        yield "rope_freqs.weight", plain / stretched
    for kind in ("long", "short"):
        if (factors := rope.get(f"{kind}_factor")) is not None:
            yield f"rope_factors_{kind}.weight", np.array(factors, np.float32)


def _as_converted(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """Tensors under the checkpoint's names, or under those that the conversion gives them before its maps."""
    weights, model_type = open_weights(folder), config["model_type"]
    experts: dict[tuple[str, str], dict[int, Array]] = {}
    for name in weights.names:
        array = np.asarray(weights.read(name))
        if array.dtype == ml_dtypes.bfloat16:
            array = array.astype(np.float32)
        if name == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        if model_type in _NORMS_WITH_ONE and name.endswith("norm.weight"):
            array = array + np.float32(1)
        if model_type in _PERMUTED and (".q_proj." in name or ".k_proj." in name):
            heads = config["num_attention_heads" if ".q_proj." in name else "num_key_value_heads"]
            array = array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        layer = name.removeprefix("model.layers.").partition(".")[0]
        if ".experts." in name and (number := name.partition(".experts.")[2].partition(".")[0]).isdigit():
            part = _STACKED[name.rpartition(".weight")[0].rpartition(".")[2]]
            experts.setdefault((layer, part), {})[int(number)] = array
        else:
            yield from _parted(name, layer, array, config)
    for (layer, part), arrays in experts.items():
        stacked = np.stack([arrays[number] for number in sorted(arrays)])
        yield f"blk.{layer}.ffn_{part}_exps.weight", stacked


def _parted(name: str, layer: str, array: Array, config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """What a tensor of a checkpoint becomes: itself, or several."""
    if name.endswith("sinks"):
        yield f"{name}.weight", array
    elif name.endswith(("gate_up_proj", "gate_up_proj_bias")) and config["model_type"] == "gpt_oss":
        suffix = "bias" if name.endswith("bias") else "weight"
        rows = array if suffix == "bias" else array.swapaxes(1, 2)
        yield f"blk.{layer}.ffn_gate_exps.{suffix}", rows[:, ::2]
        yield f"blk.{layer}.ffn_up_exps.{suffix}", rows[:, 1::2]
    elif name.endswith(("experts.down_proj", "down_proj_bias")) and config["model_type"] == "gpt_oss":
        suffix = "bias" if name.endswith("bias") else "weight"
        yield f"blk.{layer}.ffn_down_exps.{suffix}", array if suffix == "bias" else array.swapaxes(1, 2)
    elif name.endswith("block_sparse_moe.input_linear.weight"):
        gate, up = np.split(array, 2, axis=1)
        yield f"blk.{layer}.ffn_gate_exps.weight", gate
        yield f"blk.{layer}.ffn_up_exps.weight", up
    elif name.endswith("block_sparse_moe.output_linear.weight"):
        yield f"blk.{layer}.ffn_down_exps.weight", array
    elif name.endswith("e_score_correction_bias"):
        yield f"blk.{layer}.exp_probs_b.bias", array
    elif name.endswith("conv.conv.weight"):
        yield name, array[:, 0]
    elif name.endswith("kv_b_proj.weight"):
        own, value = config["qk_nope_head_dim"], config["v_head_dim"]
        heads = array.reshape(-1, own + value, array.shape[-1])
        yield f"blk.{layer}.attn_k_b.weight", heads[:, :own].swapaxes(1, 2)
        yield f"blk.{layer}.attn_v_b.weight", heads[:, own:]
    else:
        yield name, array


def _write_tokenizer(writer: Any, folder: Path) -> None:
    """A byte-level tokenizer, such as every tiny checkpoint has, and its chat template."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    template = folder / "chat_template.jinja"
    texts = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    kinds = dict.fromkeys(texts, 1)
    for token in tokenizer["added_tokens"]:
        texts[token["id"]] = token["content"]
        kinds[token["id"]] = 3 if token["special"] else 4
    numbers = {text: number for number, text in texts.items()}
    vocab = range(json.loads((folder / "config.json").read_text())["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2" if tokenizer["pre_tokenizer"]["type"] == "ByteLevel" else "qwen2")
    writer.add_token_list([texts.get(number, f"[PAD{number}]") for number in vocab])
    writer.add_token_types([kinds.get(number, 5) for number in vocab])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    for name in ("bos", "eos", "pad"):
        if settings.get(f"{name}_token") is not None:
            getattr(writer, f"add_{name}_token_id")(numbers[settings[f"{name}_token"]])
    writer.add_chat_template(template.read_text() if template.is_file() else settings["chat_template"])
