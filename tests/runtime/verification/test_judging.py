"""Artifacts against scores that were recorded."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from ingot.codegen import compile_model
from ingot.frontend import load_model
from ingot.ir.errors import ArtifactError
from ingot.passes import PipelineOptions, fusing_passes, run_passes
from ingot.passes.calibration import cut_layers, score
from ingot.runtime.verification.judging import judge, judge_apart
from ingot.targets import read_manifest, write_manifest
from ingot.targets.recorded_scores import RecordedScores, write_scores

from ...compiled import WHOLE_GROUPS, compile_tiny
from ...tiny_models import make_tiny


def record(checkpoint: Path, folder: Path) -> None:
    """What the interpreter makes of two windows."""
    model = load_model(checkpoint)
    module = run_passes(model.module, fusing_passes(PipelineOptions(max_seq_len=64))).module
    generator = np.random.default_rng(5)
    windows = [generator.integers(0, model.config.vocab_size, size).astype(np.int32) for size in (40, 23)]
    write_scores(folder, windows, score(module, cut_layers(module), model.weights.read, windows))


def test_scores_read_back(tmp_path: Path) -> None:
    windows = [np.array([3, 1, 4], np.int32), np.array([1, 5], np.int32)]
    tables = [
        np.random.default_rng(n).normal(size=(len(w), 7)).astype(np.float32) for n, w in enumerate(windows)
    ]
    write_scores(tmp_path / "scores", windows, iter(tables))
    scores = RecordedScores(tmp_path / "scores")
    assert scores.windows == [[3, 1, 4], [1, 5]]
    for window, table in zip(scores.windows, tables, strict=True):
        np.testing.assert_array_equal(scores.score(window), table)


def test_an_artifact_is_judged_by_the_interpreter_and_the_record_lasts(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = make_tiny("llama", tmp_path, **WHOLE_GROUPS)
    text = tmp_path / "calibration.txt"
    text.write_text("the rain in Spain, and then the other thing. " * 20)
    exact = compile_tiny("llama", tmp_path_factory.getbasetemp(), **WHOLE_GROUPS)
    rounded = tmp_path / "rounded.ingot"
    compile_model(
        checkpoint, rounded, quant="int8", calibrate=text, method="gptq", calibration_tokens=96, verify=True
    )
    record(checkpoint, tmp_path / "scores")
    found = judge(exact, tmp_path / "scores")
    assert (found.num_tokens, found.reference) == (61, "interpreter")
    assert found.max_abs_diff < 1e-4
    assert found.decode_tok_s is not None
    assert found.decode_tok_s > 0
    assert 0 < judge(rounded, tmp_path / "scores").kl_mean < 1e-2
    assert "weights are quantized by gptq on calibration.txt" in read_manifest(rounded).notes
    assert read_manifest(rounded).sources[-1].name == "calibration.txt"
    write_manifest(rounded, msgspec.structs.replace(read_manifest(rounded), accuracy=found))
    assert read_manifest(rounded).accuracy == found


def test_what_cannot_be_judged_is_said_from_the_other_process(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores", [np.array([1, 2], np.int32)], [np.zeros((2, 3), np.float32)])
    with pytest.raises(ArtifactError, match="is no artifact"):
        judge_apart(tmp_path, tmp_path / "scores")
