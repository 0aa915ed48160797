"""Targets and devices as a user meets them: several in one, adding one, choosing, what is refused."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.codegen.adding import add_targets
from ingot.codegen.commands import compile_command
from ingot.codegen.cuda.build import build_program
from ingot.codegen.gpu import lower
from ingot.codegen.gpu.rules import RULES
from ingot.ir.errors import ArtifactError, CompileError, RequestError
from ingot.runtime.bench import BenchOptions, run_benchmark
from ingot.runtime.bench.counting import count_work
from ingot.runtime.bench.gpu_limits import measure_gpu
from ingot.runtime.bench.report import print_report
from ingot.runtime.engine.engine import Engine
from ingot.runtime.execution.artifact import open_artifact
from ingot.targets import cuda, parse_targets, read_manifest
from ingot.targets.cuda import CudaGpu

from ...compiled import compile_tiny
from ...tiny_models import make_tiny
from .emulated import needs_compiler


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture
def artifact(parent: Path, tmp_path: Path) -> Path:
    """An artifact for CPUs alone, which a test may change."""
    return Path(shutil.copytree(compile_tiny("llama", parent), tmp_path / "tiny.ingot"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cuda:sm_70", "no target 'cuda:sm_70'; architectures are sm_80 (A100, A30), sm_86"),
        ("cuda", "this machine has no NVIDIA GPU to build for: write cuda:NAME with one of sm_80"),
        ("metal:m1", "no target 'metal:m1'; write metal, which is for all Macs with Apple silicon"),
    ],
)
def test_targets_that_cannot_be(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "no such driver")
    with pytest.raises(CompileError) as error:
        parse_targets(text)
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize(("own", "built"), [("sm_90", "sm_90"), ("sm_87", "sm_86"), ("sm_103", "sm_100")])
def test_cuda_alone_is_this_machines_gpu(own: str, built: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "find_gpus", lambda: (CudaGpu(0, "a GPU", own, 1 << 30, 100),))
    assert [target.name for target in parse_targets("cuda")] == [f"cuda:{built}"]


def test_a_gpu_runs_what_was_built_for_it_or_before() -> None:
    gpu = CudaGpu(0, "a GPU", "sm_90", 1 << 30, 132)
    assert [gpu.runs(name) for name in ("sm_80", "sm_90", "sm_100")] == [True, True, False]


def test_without_a_gpu_the_cpu_is_taken_and_cuda_refused(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "no such driver")
    assert open_artifact(artifact).library().target.startswith("cpu:")
    with pytest.raises(ArtifactError, match=r"on cuda .*is for a CPU.*--add-target cuda"):
        Engine(artifact, device="cuda")
    with pytest.raises(RequestError, match="no device 'tpu'; there are auto, cpu, cuda"):
        Engine(artifact, device="tpu")


@needs_compiler
def test_a_target_is_added_weights_stay_and_it_is_measured(
    gpu: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, weights = read_manifest(artifact), (artifact / "params" / "weights.bin").stat()
    added = add_targets(artifact, ["cuda:sm_90", before.libraries[0].target])
    manifest = read_manifest(artifact)
    assert added.manifest == manifest
    assert [library.target for library in manifest.libraries] == [before.libraries[0].target, "cuda:sm_90"]
    assert {"lib/cuda-sm_90.json", "lib/cuda-sm_90.cubin"} <= {file.path for file in manifest.files}
    assert (artifact / "params" / "weights.bin").stat().st_mtime_ns == weights.st_mtime_ns
    assert manifest.parameters == before.parameters
    opened = open_artifact(artifact)
    assert opened.library().backend == "cuda"
    assert opened.library(device="cpu").target == before.libraries[0].target
    with Engine(artifact, kv_memory="1MiB") as engine:
        assert engine.generate([[1, 2, 3]])[0].token_ids
    brief = functools.partial(measure_gpu, symbols={"vectors": 4100, "blocks": 2, "rounds": 2}, seconds=0.01)
    monkeypatch.setattr("ingot.runtime.bench.benchmark.measure_gpu", brief)
    monkeypatch.setattr("ingot.runtime.bench.benchmark.measure_first_token", lambda folder, device: 1.0)
    options = BenchOptions(prompt_tokens=5, output_tokens=3, concurrency=(2,), rounds=1, profile=True)
    record = run_benchmark(artifact, options)
    print_report(record, to_stderr=False)
    assert record.host.gpu == "Emulated GPU"
    assert min(record.host.copy_gb_s or 0, record.host.bf16_tflops or 0, record.host.int8_tops or 0) > 0
    assert record.device_memory_bytes is not None
    assert record.device_memory_bytes > record.weight_bytes
    assert record.runs[0].fraction_of_limit.decode is not None
    prefill, decode = record.profile
    groups = {group.name: group for group in decode.groups}
    assert {"products by matrices", "head", "attention", "norms, rope, rounding"} <= groups.keys()
    assert groups["products by matrices"].operations == count_work(opened).operations_per_token * 2
    assert groups["attention"].bytes > 0
    assert (prefill.phase, prefill.tokens) == ("prefill", 5)


@needs_compiler
def test_altered_kernels_are_never_loaded(gpu: Path, artifact: Path) -> None:
    add_targets(artifact, ["cuda:sm_90"])
    path = artifact / "lib" / "cuda-sm_90.cubin"
    path.write_bytes(bytes(reversed(path.read_bytes())))
    with pytest.raises(ArtifactError, match=r"cuda-sm_90\.cubin was altered"):
        Engine(artifact, device="cuda")


def test_an_artifact_as_it_is_takes_no_other_options(artifact: Path) -> None:
    result = CliRunner().invoke(
        compile_command, [str(artifact), "--add-target", "cuda:sm_90", "--quant", "int4"]
    )
    assert result.exit_code == 2
    assert "--add-target keeps an artifact as it is; leave away quant" in result.stderr


def test_operators_without_a_kernel_are_named(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny("llama", parent)
    monkeypatch.setattr(lower, "RULES", {key: rule for key, rule in RULES.items() if key != "silu_mul"})
    with pytest.raises(CompileError, match=r"no kernel for operator silu_mul .* on CUDA"):
        compile_model(
            folder, tmp_path / "a.ingot", targets=["cuda:sm_90"], dtype="float32", kv_cache="float32"
        )
    assert not (tmp_path / "a.ingot").exists()


def test_without_a_compiler_it_says_what_brings_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.codegen.cuda.build._find_nvcc", lambda: None)
    monkeypatch.setattr("ingot.codegen.cuda.build._find_nvrtc", lambda: None)
    with pytest.raises(CompileError, match=r"pip install '\.\[cuda\]'"):
        build_program("", "sm_90")
