"""Checkpoints made without torch: a tiny Llama's files, and safetensors written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

__all__ = ["CONFIG", "safetensors_bytes", "tiny_files", "tiny_tensors", "write_files"]

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 31,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 10,
    "max_position_embeddings": 64,
    "rope_theta": 10000.0,
    "eos_token_id": [7, 9],
    "torch_dtype": "float32",
}

_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int8": "I8",
    "uint8": "U8",
    "float8_e4m3fn": "F8_E4M3",
}


def tiny_tensors(dtype: Any = np.float32) -> dict[str, npt.NDArray[np.generic]]:
    """The tensors of a model of :data:`CONFIG`."""
    random = np.random.default_rng(0)
    hidden, wide, q, kv = 48, 40, 60, 30
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (31, hidden),
        "lm_head.weight": (31, hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(2):
        shapes |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in {
                "input_layernorm": (hidden,),
                "post_attention_layernorm": (hidden,),
                "self_attn.q_proj": (q, hidden),
                "self_attn.k_proj": (kv, hidden),
                "self_attn.v_proj": (kv, hidden),
                "self_attn.o_proj": (hidden, q),
                "mlp.gate_proj": (wide, hidden),
                "mlp.up_proj": (wide, hidden),
                "mlp.down_proj": (hidden, wide),
            }.items()
        }
    return {name: random.standard_normal(shape, np.float32).astype(dtype) for name, shape in shapes.items()}


def safetensors_bytes(tensors: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    """A safetensors file of ``tensors``, in their order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, array in tensors.items():
        stop = start + array.nbytes
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in tensors.values())


def tiny_files(*, shards: int = 1, dtype: Any = np.float32, **config: Any) -> dict[str, bytes]:
    """The files of a model of :data:`CONFIG`, changed by ``config``: its weights in one file or several."""
    files = {"config.json": json.dumps({**CONFIG, **config}).encode()}
    tensors = tiny_tensors(dtype)
    if shards == 1:
        return files | {"model.safetensors": safetensors_bytes(tensors)}
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = names[number::shards]
        files[file] = safetensors_bytes({name: tensors[name] for name in part})
        weight_map |= dict.fromkeys(part, file)
    return files | {"model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode()}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Put ``files`` into ``folder``, made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
