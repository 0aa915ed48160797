"""``ingot compile``, ``ingot targets``, and ``ingot inspect`` of what was compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from ingot.codegen import CompiledArtifact
from ingot.codegen.commands import compile_command, quantize_command
from ingot.codegen.report import print_report
from ingot.ir import parse_module
from ingot.targets import CPUS, parse_targets, read_manifest
from ingot.targets.manifest import PassRecord

TINYCHAT = Path(__file__).parents[2] / "examples" / "tinychat" / "model"


def _ingot(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ingot", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """An artifact, and what compiling it printed on what rich takes for a terminal."""
    output = tmp_path_factory.mktemp("compiled") / "tinychat.ingot"
    line = ("compile", str(TINYCHAT), "-o", str(output), "--quant", "int4", "--max-seq-len", "128", "--json")
    return output, _ingot(*line, TTY_COMPATIBLE="1")


def test_compile_prints_one_document_and_its_progress_elsewhere(
    compiled: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    output, done = compiled
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["artifact"] == str(output)
    assert document["bytes"] == sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    assert document["peak_memory_bytes"] > document["bytes"]
    assert 0 < document["seconds"] < 600
    assert (document["quant"], document["targets"]) == ("int4", [t.name for t in parse_targets("cpu")])
    assert {"name": "page_kv_cache", "modified": True, "largest_difference": None} in document["passes"]
    for stage in ("Reading the model", "Running passes", "Packing weights"):
        assert stage in done.stderr


def test_compile_replaces_nothing_unless_told_to(
    compiled: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    output, _ = compiled
    before = read_manifest(output)
    done = _ingot("compile", str(TINYCHAT), "-o", str(output))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {output} exists; --force (force=True) replaces it\n"
    assert read_manifest(output) == before


def test_the_report_tells_size_memory_and_what_each_pass_changed(
    compiled: tuple[Path, subprocess.CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    output, _ = compiled
    manifest = read_manifest(output)
    artifact = CompiledArtifact(output, 3 * 2**20, 1.25, 5 * 2**30, manifest)
    print_report(artifact)
    printed = capsys.readouterr().out
    assert str(output) in printed.replace("\n", "")
    for text in ("3.0 MiB", "1.2 s", "5.00 GiB", "in pages of 16", "fuse_attention"):
        assert text in printed
    assert "largest difference" not in printed

    verified = msgspec.structs.replace(
        manifest, passes=(PassRecord("fuse_norms", True, 2e-6), PassRecord("fuse_rope", False, 0.0))
    )
    print_report(CompiledArtifact(Path("a [bold] name.ingot"), 1, 1.0, 1, verified))
    name, *lines = capsys.readouterr().out.splitlines()
    assert name == "a [bold] name.ingot"
    rows = [line.split() for line in lines]
    assert ["fuse_norms", "yes", "2e-06"] in rows
    assert ["fuse_rope", "no", "0"] in rows


def test_inspect_tells_the_same_to_people_and_to_scripts(
    compiled: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    output, _ = compiled
    as_json = _ingot("inspect", str(output), "--json")
    assert (as_json.returncode, as_json.stderr) == (0, "")
    document = json.loads(as_json.stdout)
    assert document == json.loads((output / "manifest.json").read_text())

    told = _ingot("inspect", str(output)).stdout
    assert "llama, 4 layers, vocabulary 2048" in told
    assert "4,458,752, quant int4" in told
    for file in document["files"]:
        assert f"{file['path']} " in told
        assert file["blake3"][:16] in told


def test_inspect_shows_the_module_of_each_stage(
    compiled: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    output, _ = compiled
    for stage in ("plain", "fused", "quantized", "paged"):
        shown = _ingot("inspect", str(output), "--ir", stage)
        assert parse_module(shown.stdout).stage == stage
    refused = _ingot("inspect", str(output), "--ir", "molten")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "has no stage 'molten'; it has fused, paged, plain, quantized" in refused.stderr


def test_targets_lists_all_and_marks_what_runs_here() -> None:
    document = json.loads(_ingot("targets", "--json").stdout)
    assert [target["name"] for target in document["targets"]] == [f"cpu:{name}" for name in CPUS]
    running = {target["name"] for target in document["targets"] if target["runs_here"]}
    assert document["default"] in running
    told = _ingot("targets").stdout
    assert all(f"cpu:{name}" in told for name in CPUS)
    assert told.count("default") == 2  # the target's row, and the sentence on 'cpu'


def test_quantize_says_what_it_takes_unless_told_otherwise() -> None:
    runner = CliRunner()
    for command, default in ((quantize_command, "int4"), (compile_command, "none")):
        told = " ".join(runner.invoke(command, ["--help"]).output.split())
        assert f"chosen for --size or --kl. [default: {default}]" in told
