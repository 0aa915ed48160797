"""GPUs, which are emulated here: in float32 what the CPU computes, for every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.runtime.engine.engine import Engine

from ..codegen.cuda.conftest import emulation_folder as emulation_folder
from ..codegen.cuda.conftest import gpu as cuda_gpu
from ..codegen.cuda.emulated import needs_compiler
from ..codegen.metal.conftest import as_metal as as_metal
from ..codegen.metal.conftest import gpu as metal_gpu
from ..tiny_models import ARCHITECTURES, make_tiny
from .test_reference import SEQUENCES, TOLERANCE

__all__ = ["as_metal", "cuda_gpu", "emulation_folder", "metal_gpu"]

pytestmark = [needs_compiler, pytest.mark.slow]

TEXT_PARTS = ("gemma3", "mistral3", "qwen3_5", "qwen3_5_moe")
"""Of models that take images as well, which are families of their own, too."""

TOKENS = SEQUENCES[2]
CHUNK = 20
"""Tokens of a step: more rows than those that are multiplied few at a time, then fewer."""


def log_probs(artifact: Path, device: str) -> npt.NDArray[np.float32]:
    with Engine(artifact, device=device, max_num_batched_tokens=CHUNK, kv_memory="1MiB") as engine:
        return engine.score(TOKENS)


@pytest.mark.parametrize("machine", ["cuda", "metal"])
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in TEXT_PARTS])
def test_gpus_compute_what_the_cpu_does(
    request: pytest.FixtureRequest,
    parent: Path,
    tmp_path: Path,
    record: Callable[[str, float], None],
    architecture: str,
    machine: str,
) -> None:
    request.getfixturevalue(f"{machine}_gpu")
    model = {"tie_word_embeddings": True} if architecture.startswith("gemma") else {}
    folder = make_tiny(architecture, parent, **model)
    # Metal's emulation stands behind CUDA's driver, too.
    compiled = compile_model(
        folder, tmp_path / "both.ingot", targets=["cpu", "cuda:sm_90"], dtype="float32", max_seq_len=96
    )
    cpu, gpu = (log_probs(compiled.path, device) for device in ("cpu", "cuda"))
    difference = float(np.abs(cpu - gpu).max())
    record(f"{architecture} ({machine} against cpu)", difference)
    assert difference <= TOLERANCE
