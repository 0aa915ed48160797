"""What quantizing cost: an artifact against the model it was made of, over a text.

The reference is computed here, by the interpreter in float32, one layer held at a time, so that there is one
for every model that can be compiled, whatever its size. Whoever can run artifacts compares: see
:data:`.trial.Judge`.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from ..frontend import load_model
from ..ir.errors import CompileError
from ..passes import PipelineOptions, fusing_passes, run_passes
from ..passes.calibration import cut_layers, score
from ..targets import write_manifest
from ..targets.recorded_scores import write_scores
from ..targets.sample_text import DEFAULT_TEXT
from .calibrating import read_windows
from .compiler import CompiledArtifact
from .progress import CompileProgress
from .trial import Trial

__all__ = ["EVALUATION_TOKENS", "measure_quality"]

EVALUATION_TOKENS = 4096
"""Tokens of a text that are compared, at most."""

_WINDOW_TOKENS = 512


def measure_quality(
    source: str, artifact: CompiledArtifact, trial: Trial, *, frontend: str, progress: CompileProgress
) -> CompiledArtifact:
    """Compare ``artifact`` with the model in ``source``, and keep what is found in its manifest.

    Raises :class:`CompileError` where the model generates no text, or the text is too short.
    """
    if artifact.manifest.model.task != "generate":
        raise CompileError(f"{artifact.path} generates no text, so there are no probabilities to compare")
    model = load_model(source, frontend=frontend)
    longest = artifact.manifest.model.max_seq_len
    with tempfile.TemporaryDirectory(prefix="ingot-scores-") as name:
        folder = Path(name)
        text = trial.text or folder / "sample.txt"
        if trial.text is None:
            text.write_text(DEFAULT_TEXT, encoding="utf-8")
        windows = read_windows(
            text,
            artifact.path / "tokenizer",
            window_tokens=min(_WINDOW_TOKENS, longest),
            most_tokens=EVALUATION_TOKENS,
        )
        module = run_passes(model.module, fusing_passes(PipelineOptions(max_seq_len=longest))).module
        layers = cut_layers(module)
        progress.stage("Computing the reference", len(layers))
        scores = score(module, layers, model.weights.read, windows, progress.advance)
        write_scores(folder / "scores", [np.asarray(window) for window in windows], scores)
        progress.stage("Comparing", None)
        accuracy = trial.judge(artifact.path, folder / "scores")
    manifest = msgspec.structs.replace(artifact.manifest, accuracy=accuracy)
    write_manifest(artifact.path, manifest)
    return replace(artifact, manifest=manifest)
