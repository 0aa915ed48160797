"""What a benchmark says of a Mac's GPU, on the fake of one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen.adding import add_targets
from ingot.runtime.bench.gpu_limits import measure_gpu
from ingot.runtime.execution.artifact import open_artifact

from ....compiled import compile_tiny
from .mac import Mac, needs_compiler


@needs_compiler
@pytest.mark.slow
def test_its_limits_are_measured(
    mac_target: Mac, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    compiled = compile_tiny("llama", tmp_path_factory.getbasetemp())
    folder = Path(shutil.copytree(compiled, tmp_path / "tiny.ingot"))
    add_targets(folder, ["metal"])
    artifact = open_artifact(folder)
    few = {"vectors": 4100, "blocks": 2, "rounds": 2}
    host = measure_gpu(artifact, artifact.library(device="metal"), symbols=few, seconds=0.01)
    assert host.gpu == "Fake M1"
    assert min(host.copy_gb_s or 0, host.float32_tflops or 0, host.int8_tops or 0) > 0
