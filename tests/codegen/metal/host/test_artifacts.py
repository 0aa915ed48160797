"""Artifacts for Macs: what is in them, where they run, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen.adding import add_targets
from ingot.codegen.link.zig import has_zig
from ingot.ir.errors import ArtifactError
from ingot.runtime.commands.inspect import inspect
from ingot.runtime.engine.engine import Engine
from ingot.runtime.execution.artifact import open_artifact
from ingot.targets import CPUS, Host, metal, read_manifest

from ....compiled import compile_tiny
from ...link.macho_files import read_macho
from .mac import Mac, needs_compiler

X86 = Host("Linux", "x86_64", "a CPU", CPUS["x86-64-v3"].features, 2, 1 << 30)
ROSETTA = Host("Darwin", "x86_64", "VirtualApple", frozenset(), 8, 1 << 34)
MAC = Host("Darwin", "arm64", "Apple M1", CPUS["apple-m1"].features, 8, 1 << 34)


@pytest.fixture
def artifact(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """An artifact for this machine's CPU alone, which a test may change."""
    return Path(
        shutil.copytree(compile_tiny("llama", tmp_path_factory.getbasetemp()), tmp_path / "tiny.ingot")
    )


@needs_compiler
def test_where_it_runs(mac: Mac, own_host: None, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = add_targets(artifact, ["metal"]).manifest
    assert {"lib/metal.json", "lib/metal.metal", "lib/metal.dylib"} <= {file.path for file in manifest.files}
    told = CliRunner().invoke(inspect, [str(artifact)]).stdout
    assert "metal (Macs with Apple silicon)" in told
    opened = open_artifact(artifact)
    assert opened.library(MAC).target == opened.library(MAC, device="metal").target == "metal"
    assert opened.library(device="cpu").target.startswith("cpu:")
    with pytest.raises(ArtifactError, match=r"needs a Python for arm64, and this is one for x86_64"):
        opened.library(ROSETTA)
    monkeypatch.setattr(metal, "FRAMEWORK", "/no/Metal")
    assert opened.library().target.startswith("cpu:")
    with pytest.raises(
        ArtifactError, match=r"on metal .*metal needs a Mac with Apple silicon.*: take a machine"
    ):
        opened.library(X86, device="metal")


@needs_compiler
@pytest.mark.parametrize("name", ["metal.dylib", "metal.metal"])
def test_what_was_altered_is_never_loaded(name: str, mac: Mac, own_host: None, artifact: Path) -> None:
    add_targets(artifact, ["metal"])
    path = artifact / "lib" / name
    path.write_bytes(bytes(reversed(path.read_bytes())))
    with pytest.raises(ArtifactError, match=rf"{name} was altered"):
        Engine(artifact, device="metal")


@pytest.mark.slow
@pytest.mark.skipif(not has_zig(), reason="needs the extra [cross]")
def test_one_artifact_for_a_mac(artifact: Path) -> None:
    before = read_manifest(artifact)
    manifest = add_targets(artifact, ["cpu:apple-m1", "metal"]).manifest
    assert manifest.parameters == before.parameters
    assert manifest.toolchain["zig"]
    step, host = (
        read_macho((artifact / "lib" / f"{name}.dylib").read_bytes()) for name in ("cpu-apple-m1", "metal")
    )
    assert "___tvm_ffi__library_bin" in step.exports
    assert "___tvm_ffi_metal_launch" in host.exports
    for library_for_mac in (step, host):
        assert (library_for_mac.is_signed, library_for_mac.least_system) == (True, (11, 0))
        assert library_for_mac.libraries == ["/usr/lib/libSystem.B.dylib"]
        assert all(name.startswith("_TVM") for name in library_for_mac.flat)
