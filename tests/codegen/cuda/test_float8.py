"""Models whose weights and rows are floats of eight bits: on a GPU alone, as the interpreter has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.ir.errors import CompileError
from ingot.runtime.execution.artifact import open_artifact
from ingot.runtime.execution.gpu.gpu_executor import GpuExecutor
from ingot.runtime.execution.gpu.opening import open_device

from ...compiled import WHOLE_GROUPS
from ...exactness.interpreting import interpret, paged_module
from ...exactness.stepping import in_steps
from ...exactness.unpacking import unpack_parameters
from ...tiny_models import make_tiny
from .emulated import needs_compiler

SEQUENCES = ([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4], [2, 7, 1, 8])
STEPS = ({0: 18, 1: 3}, {0: 2, 1: 1})


def test_cpus_leave_rows_as_they_are(tmp_path: Path) -> None:
    folder = make_tiny("llama", tmp_path, **WHOLE_GROUPS)
    with pytest.raises(CompileError, match=r"on CPU rows cannot be rounded to dynamic_fp8_e4m3_row, .*_a8"):
        compile_model(folder, tmp_path / "a.ingot", quant="fp8")


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "quant"), [("qwen3", "fp8"), ("qwen3", "fp8_e4m3_g32_a8"), ("mixtral", "fp8")]
)
def test_logits_are_the_interpreters(architecture: str, quant: str, gpu: Path, tmp_path: Path) -> None:
    folder = make_tiny(architecture, tmp_path, **WHOLE_GROUPS)
    path = compile_model(
        folder, tmp_path / "a.ingot", targets=["cuda:sm_90"], quant=quant, dtype="float32", max_seq_len=96
    ).path
    module, artifact = paged_module(path), open_artifact(path)
    expected = interpret(module, unpack_parameters(path, module.forward.parameters), SEQUENCES, STEPS)
    library = artifact.library()
    executor = GpuExecutor(
        artifact,
        library,
        open_device(artifact, library),
        kv_memory=None,
        max_num_seqs=2,
        max_num_batched_tokens=32,
    )
    try:
        found = in_steps(executor, SEQUENCES, STEPS)
    finally:
        executor.close()
    differences = np.abs(np.concatenate(found) - np.concatenate(expected))
    assert np.median(differences) < 1e-3
    assert differences.max() < 0.2  # what differs in its last bit may round to other codes
