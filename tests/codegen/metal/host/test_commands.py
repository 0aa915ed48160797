"""Metal as a user meets it: as a target, in what ``ingot targets`` tells, and where something is missing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from ingot.codegen import compile_model
from ingot.codegen.commands import targets_command
from ingot.codegen.link import zig
from ingot.ir.errors import CompileError
from ingot.targets import MetalTarget, parse_targets

from .mac import Mac, needs_compiler


def test_metal_is_a_target_whatever_this_machine_is() -> None:
    assert parse_targets("metal") == (MetalTarget(),)


@needs_compiler
def test_a_mac_is_told_of(mac: Mac) -> None:
    (gpu,) = json.loads(CliRunner().invoke(targets_command, ["--json"]).stdout)["gpus"]
    assert gpu == {"name": "Fake M1", "architecture": "metal", "memory_bytes": 1 << 30}
    said = CliRunner().invoke(targets_command).stdout
    assert "Fake M1 (metal, 1.00 GiB)" in said
    assert any(words[:1] == ["metal"] and words[-1] == "runs" for words in map(str.split, said.splitlines()))


def test_without_zig_it_says_what_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(zig, "has_zig", lambda: False)
    monkeypatch.setattr("ingot.codegen.host_report.has_zig", lambda: False)
    for target in ("metal", "cpu:apple-m1"):
        with pytest.raises(CompileError, match=r"needs the package 'ziglang'.*\[cross\]"):
            compile_model(tmp_path / "no model", tmp_path / "a.ingot", targets=["cpu", target])
    said = CliRunner().invoke(targets_command).stdout
    assert "Darwin and Metal: needs the package ziglang (the extra 'cross')" in " ".join(said.split())
    targets = json.loads(CliRunner().invoke(targets_command, ["--json"]).stdout)["gpu_targets"]
    assert [target for target in targets if target["name"] == "metal"] == [
        {"name": "metal", "gpus": "Macs from M1 on", "runs_here": False, "can_be_built": False}
    ]
