"""Tiny checkpoints compiled into artifacts, each once a session.

From a test in a folder below, import with ``from ..compiled import compile_tiny``. The compiler comes into
the process with this module, because it cannot once an engine has brought in TVM's runtime alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingot.codegen import compile_model
from ingot.codegen.tvm_compiler import prepare_compiler

from .tiny_models import WHOLE_GROUPS, make_tiny

prepare_compiler()
import tvm  # noqa: E402, F401

__all__ = [
    "WHOLE_GROUPS",
    "WHOLE_GROUPS_OF_DELTA_RULES",
    "WHOLE_GROUPS_OF_LATENTS",
    "compile_tiny",
    "compile_tinychat",
]

_TINYCHAT = Path(__file__).parents[1] / "examples" / "tinychat" / "model"

WHOLE_GROUPS_OF_LATENTS: dict[str, Any] = {
    "num_key_value_heads": 6,
    "head_dim": 8,
    "q_lora_rank": 64,
    "kv_lora_rank": 128,
    "v_head_dim": 32,
    "moe_intermediate_size": 96,
}
"""What models with latents need besides."""

WHOLE_GROUPS_OF_DELTA_RULES: dict[str, Any] = {
    "linear_num_value_heads": 8,
    "linear_num_key_heads": 4,
    "linear_key_head_dim": 24,
    "linear_value_head_dim": 40,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 192,
}
"""What models with delta rules need besides."""


def compile_tiny(
    architecture: str,
    parent: Path,
    *,
    quant: str = "none",
    dtype: str = "float32",
    page_size: int = 16,
    kv_cache: str = "auto",
    max_seq_len: int | None = None,
    targets: Sequence[str] = ("cpu",),
    stored: str = "float32",
    frontend: str = "auto",
    backend: str = "tvm",
    **model: Any,
) -> Path:
    """The artifact of a tiny checkpoint, compiled below ``parent`` unless it was before.

    Args:
        architecture: one of :data:`.tiny_models.ARCHITECTURES`.
        parent: where folders are made, such as ``tmp_path_factory.getbasetemp()`` for one a session.
        quant: as :func:`ingot.codegen.compile_model` takes it, and so are ``dtype``, ``page_size``,
            ``kv_cache``, ``max_seq_len`` and ``targets``.
        stored: dtype of the checkpoint on disk.
        frontend: as the other options; ``export`` traces the model.
        backend: as the other options.
        model: further arguments of :func:`.tiny_models.make_tiny`.
    """
    folder = make_tiny(architecture, parent, dtype=stored, **model)
    options = [quant, dtype, page_size, kv_cache, max_seq_len, list(targets), frontend, backend]
    described = json.dumps([folder.name, *options])
    output = parent / f"{folder.name}-{hashlib.sha256(described.encode()).hexdigest()[:10]}.ingot"
    if not output.exists():
        compile_model(
            folder,
            output,
            quant=quant,
            dtype=dtype,
            page_size=page_size,
            kv_cache=kv_cache,
            max_seq_len=max_seq_len,
            targets=targets,
            frontend=frontend,
            backend=backend,
        )
    return output


def compile_tinychat(parent: Path, *, quant: str = "int8") -> Path:
    """The artifact of the example chat model, compiled below ``parent`` unless it was before."""
    output = parent / f"tinychat-{quant}.ingot"
    if not output.exists():
        compile_model(_TINYCHAT, output, quant=quant)
    return output
