"""Tuning: what is found is kept, changes no bit of an answer, and gives the same bytes again."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.ir.errors import CompileError
from ingot.runtime.engine.engine import Engine
from ingot.targets import read_manifest

from ..compiled import WHOLE_GROUPS
from ..tiny_models import make_tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny("qwen2", tmp_path_factory.getbasetemp(), num_hidden_layers=2, **WHOLE_GROUPS)


def test_what_was_found_is_kept_and_used_again(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.ingot"
    compile_model(checkpoint, output, quant="int4", tune=0.5)
    (library, *_) = read_manifest(output).libraries
    assert library.tiling.keys() == {"rows", "widened_rows", "panel_rows", "panel_blocks"}
    code = (output / library.path).read_bytes()
    compile_model(checkpoint, output, quant="int4", tune=60.0, force=True)
    assert (output / library.path).read_bytes() == code
    prompts = [[number % 300 for number in range(start, start + 40)] for start in (1, 7)]
    plain = compile_model(checkpoint, tmp_path / "plain.ingot", quant="int4")
    answers = []
    for artifact in (output, plain.path):
        with Engine(artifact, kv_memory="1MiB") as engine:
            answers.append([engine.score(prompt).tobytes() for prompt in prompts])
    assert answers[0] == answers[1]


def test_what_cannot_be_tuned(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="there is nothing to tune: no weight"):
        compile_model(checkpoint, tmp_path / "a.ingot", tune=1.0)
    with pytest.raises(CompileError, match="cpu:aarch64 cannot be tuned here"):
        compile_model(checkpoint, tmp_path / "a.ingot", quant="int4", targets=["cpu:aarch64"], tune=1.0)
    with pytest.raises(CompileError, match="a number of seconds above 0"):
        compile_model(checkpoint, tmp_path / "a.ingot", quant="int4", tune=0.0)
