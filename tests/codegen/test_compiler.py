"""Compiling as a whole: the same bytes each time, all or nothing, refusals, and what the manifest says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.codegen.kernels.isa import ISAS
from ingot.ir import parse_module, print_module, verify
from ingot.ir.errors import CompileError
from ingot.targets import CPUS, detect_host, read_manifest, supported_targets

from ..compiled import WHOLE_GROUPS, compile_tiny
from ..quantized_checkpoints import quantize_folder
from ..tiny_models import make_tiny

ANYWHERE = ("cpu:x86-64-v3", "cpu:aarch64")

COMPILE = """
import sys
from ingot.codegen import compile_model
from ingot.codegen.kernels.isa import ISAS
compile_model(sys.argv[1], sys.argv[2], quant="int4", targets=sys.argv[3:])
"""


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def checkpoint(parent: Path) -> Path:
    return make_tiny("qwen2", parent, num_hidden_layers=2, **WHOLE_GROUPS)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_inputs_give_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    compile_model(checkpoint, tmp_path / "a.ingot", quant="int4", targets=ANYWHERE)
    other = tmp_path / "elsewhere" / "under" / "another-name"
    subprocess.run(
        [sys.executable, "-c", COMPILE, checkpoint, other, *ANYWHERE],
        env=os.environ | {"PYTHONHASHSEED": "12345", "TVM_NUM_THREADS": "1", "TVM_USE_RUNTIME_LIB": ""},
        check=True,
        cwd=tmp_path,
    )
    first, second = contents(tmp_path / "a.ingot"), contents(other)
    assert {"manifest.json", "params/weights.bin", "ir/plain.ir", "ir/paged.ir"} <= first.keys()
    assert {f"lib/{target.replace(':', '-')}.so" for target in ANYWHERE} <= first.keys()
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


class _Interrupting:
    """Progress that fails at the start of one stage."""

    def __init__(self, stage: str, error: BaseException) -> None:
        self._stage, self._error = stage, error
        self.stages: list[str] = []

    def stage(self, title: str, total: int | None) -> None:
        self.stages.append(title)
        if title == self._stage:
            raise self._error

    def advance(self, amount: int = 1) -> None:
        pass


@pytest.fixture(scope="module")
def compiled(checkpoint: Path, parent: Path) -> Path:
    """An artifact to copy."""
    return compile_model(checkpoint, parent / "compiled.ingot", max_seq_len=31, targets=ANYWHERE).path


@pytest.fixture
def old_artifact(compiled: Path, tmp_path: Path) -> Iterator[Path]:
    """An artifact in a folder of its own, which must be as it was in the end."""
    path = tmp_path / "old.ingot"
    shutil.copytree(compiled, path)
    before = contents(path)
    yield path
    assert contents(path) == before
    assert list(tmp_path.iterdir()) == [path], "something was left behind"


STAGES = ["Reading the model", "Running passes", "Generating machine code", "Packing weights", "Hashing"]


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        *((stage, KeyboardInterrupt()) for stage in STAGES),
        ("Running passes", RuntimeError("a defect")),
        ("Generating machine code", OSError(28, "No space left on device")),
    ],
)
def test_what_fails_leaves_nothing(
    checkpoint: Path, tmp_path: Path, stage: str, error: BaseException
) -> None:
    progress = _Interrupting(stage, error)
    with pytest.raises((type(error), CompileError)):
        compile_model(checkpoint, tmp_path / "new.ingot", targets=ANYWHERE[:1], progress=progress)
    assert progress.stages == STAGES[: STAGES.index(stage) + 1]
    assert list(tmp_path.iterdir()) == []


def test_what_fails_leaves_the_old_one(checkpoint: Path, old_artifact: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        compile_model(
            checkpoint,
            old_artifact,
            force=True,
            targets=ANYWHERE[:1],
            progress=_Interrupting("Hashing", KeyboardInterrupt()),
        )


def test_an_interrupt_while_the_old_one_is_replaced(
    checkpoint: Path, old_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if target == old_artifact and self.parent == old_artifact.parent:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compile_model(checkpoint, old_artifact, force=True, targets=ANYWHERE[:1])


def test_an_output_that_exists_is_kept_unless_forced(checkpoint: Path, old_artifact: Path) -> None:
    with pytest.raises(CompileError, match=r"exists; --force \(force=True\) replaces it"):
        compile_model(checkpoint, old_artifact)


def test_force_replaces_an_artifact(checkpoint: Path, compiled: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.ingot"
    shutil.copytree(compiled, path)
    assert (path / "lib" / "cpu-aarch64.so").is_file()
    compile_model(checkpoint, path, max_seq_len=47, targets=ANYWHERE[:1], force=True)
    assert read_manifest(path).model.max_seq_len == 47
    assert not (path / "lib" / "cpu-aarch64.so").exists()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("is_folder", [True, False])
def test_force_replaces_nothing_else(checkpoint: Path, tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "thesis"
    file = path / "chapter.txt" if is_folder else path
    file.parent.mkdir(exist_ok=True)
    file.write_text("years of work")
    with pytest.raises(CompileError, match="is not an artifact, so it is not replaced"):
        compile_model(checkpoint, path, force=True)
    assert file.read_text() == "years of work"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": []}, "no target to build for"),
        ({"targets": ["cpu", "cpu:z80"]}, "no target 'cpu:z80'; CPUs are x86-64-v3, "),
        ({"quant": "int9"}, "no quantization scheme or format 'int9'; there are none, int8, int2"),
        ({"dtype": "float64"}, "no dtype 'float64'; dtypes: auto, float32, float16, bfloat16"),
        ({"dtype": "int8"}, "no dtype 'int8'"),
        ({"backend": "wasm"}, "no backend 'wasm'; backends: tvm, onnx"),
        ({"backend": "onnx", "targets": ["cpu:x86-64-v3"]}, "a graph for any machine, none for cpu:x86-64"),
        ({"backend": "onnx", "kv_cache": "bfloat16"}, "float32, float16, int8 or int4, not bfloat16"),
        ({"page_size": 48}, "a page holds .* tokens, not 48"),
        ({"max_seq_len": 0}, "max_seq_len must be at least 1, not 0"),
    ],
)
def test_options_that_make_no_sense(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CompileError, match=message):
        compile_model(checkpoint, tmp_path / "x.ingot", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_comes_quantized_is_not_quantized_again(checkpoint: Path, tmp_path: Path) -> None:
    quantized, _ = quantize_folder(checkpoint, tmp_path, "ct packed")
    output = tmp_path / "x.ingot"
    with pytest.raises(CompileError, match=r"come quantized \(int4_g32_bf16\) and are kept as they are"):
        compile_model(quantized, output, quant="int8")


@pytest.mark.slow
def test_a_topology_quantizes_what_is_not_quantized_yet(checkpoint: Path, tmp_path: Path) -> None:
    quantized, _ = quantize_folder(checkpoint, tmp_path, "ct packed")
    output = tmp_path / "x.ingot"
    topology = tmp_path / "topology.yaml"
    topology.write_text("weights:\n  - match: lm_head.weight\n    format: int8_g32\n")
    compile_model(quantized, output, topology=topology, dtype="bfloat16")
    types = [record.type.partition("[")[0] for record in read_manifest(output).parameters]
    assert {"int4_g32_bf16", "int8_g32", "bfloat16"} <= set(types)


def test_a_checkpoint_without_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for file in checkpoint.iterdir():
        if not file.name.startswith("tokenizer"):
            (folder / file.name).symlink_to(file)
    with pytest.raises(CompileError, match=r"checkpoint holds no tokenizer\.json"):
        compile_model(folder, tmp_path / "x.ingot")
    assert list(tmp_path.iterdir()) == [folder]


def test_what_the_manifest_says(parent: Path) -> None:
    artifact = compile_tiny(
        "qwen2", parent, quant="int8", dtype="auto", page_size=32, max_seq_len=100, **WHOLE_GROUPS
    )
    manifest = read_manifest(artifact)
    model, memory = manifest.model, manifest.memory
    name = make_tiny("qwen2", parent, **WHOLE_GROUPS).name
    assert (model.name, model.architecture, model.vocab_size) == (name, "qwen2", 307)
    assert (model.num_layers, model.max_seq_len, model.eos_token_ids) == (4, 100, (301,))
    layer = 96 * (192 + 64 + 64) + (192 + 64 + 64) + 192 * 96 + 3 * 96 * 160 + 2 * 96
    assert model.num_parameters == 4 * layer + 2 * 307 * 96 + 96
    assert {file.name for file in manifest.sources} >= {"config.json", "model.safetensors"}
    assert memory.page_size == 32
    assert memory.kv_bytes_per_token == 4 * 2 * 2 * 32 * 4
    assert memory.weight_bytes == (artifact / "params" / "weights.bin").stat().st_size
    largest = 4 * max(307, 320, 2 * 160)
    assert largest < memory.activation_bytes_per_token < 8 * largest
    assert [record.name for record in manifest.inputs] == [
        "token_ids",
        "positions",
        "sequence_starts",
        "context_lengths",
        "page_table",
        "slots",
        "logit_rows",
    ]
    assert manifest.states[0].shape == ("pages", 2, 32, 32)
    assert len(manifest.states) == 8
    (library,) = manifest.libraries
    (best, *_) = supported_targets(detect_host())
    assert (library.target, library.path) == (best.name, f"lib/{best.library_name}")
    assert {file.path for file in manifest.files} == contents(artifact).keys() - {"manifest.json"}
    assert all(record.offset % 128 == 0 for p in manifest.parameters for record in p.arrays)


def test_a_weight_of_no_whole_groups_is_noted(parent: Path) -> None:
    notes = read_manifest(compile_tiny("llama", parent, quant="int4")).notes
    assert any("its rows are no whole groups of 32" in note for note in notes)


def test_the_text_of_every_stage_is_in_the_artifact(parent: Path) -> None:
    artifact = compile_tiny("llama", parent, quant="int8", **WHOLE_GROUPS)
    for stage in ("plain", "fused", "quantized", "paged"):
        text = (artifact / "ir" / f"{stage}.ir").read_text()
        module = parse_module(text)
        assert module.stage == stage
        verify(module)
        assert print_module(module) == text


@pytest.mark.parametrize("quant", ["none", "int4"])
def test_verifying_records_what_each_pass_changed(
    checkpoint: Path, compiled: Path, tmp_path: Path, quant: str
) -> None:
    made = compile_model(
        checkpoint,
        tmp_path / "x.ingot",
        quant=quant,
        verify=True,
        targets=ANYWHERE[:1],
        dump_ir=tmp_path / "ir",
    )
    records = {record.name: record for record in made.manifest.passes}
    assert all(record.largest_difference is not None for record in made.manifest.passes)
    assert ("quantize_weights" in records) == (quant == "int4")
    for record in made.manifest.passes:
        difference = record.largest_difference or 0.0
        if record.name == "quantize_weights":
            assert 1e-3 < difference < 5
        elif quant == "none":
            assert difference < 1e-4
        if not record.modified:
            assert difference == 0
    assert any(record.largest_difference for record in made.manifest.passes)
    dumped = sorted(path.name for path in (tmp_path / "ir").iterdir())
    assert len(dumped) == len(made.manifest.passes) + 1
    assert dumped[0] == "00_input.ir"
    assert all(record.largest_difference is None for record in read_manifest(compiled).passes)


LINUX = [name for name, target in CPUS.items() if target.system == "Linux"]
ONE_A_MACHINE = list({CPUS[name].machine: name for name in reversed(LINUX)}.values())


@pytest.mark.parametrize(
    "names", [ONE_A_MACHINE, pytest.param(LINUX, marks=pytest.mark.slow)], ids=["one a machine", "all"]
)
def test_every_target_can_be_built_for_from_anywhere(
    checkpoint: Path, tmp_path: Path, names: list[str]
) -> None:
    targets = [f"cpu:{name}" for name in names]
    made = compile_model(checkpoint, tmp_path / "x.ingot", targets=[*targets, targets[0]])
    assert [library.target for library in made.manifest.libraries] == targets
    for library in made.manifest.libraries:
        header = (made.path / library.path).read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        assert header[18] == {"x86_64": 62, "aarch64": 183}[library.machine]
    # Machines whose vectors are as wide may get the same code, where all is float32.
    widths = {ISAS[CPUS[name].isa].lanes for name in names}
    assert len({(made.path / library.path).read_bytes() for library in made.manifest.libraries}) >= len(
        widths
    )
