"""Traced models, compiled: over ragged steps against transformers, quantized against the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model

from ..tiny_models import reference_log_probs
from .stepping import executing, in_steps
from .test_interpreter import SEQUENCES, STEPS, interpreted
from .trying import TOLERANCE, make_checkpoint


def several(first: str, *others: str) -> list[object]:
    """The first, and if slow tests are asked for the others."""
    return [first, *(pytest.param(other, marks=pytest.mark.slow) for other in others)]


def compiled(model_type: str, parent: Path, quant: str) -> tuple[Path, Path]:
    """The checkpoint and the artifact, made once a session."""
    folder, artifact = parent / f"traced-{model_type}", parent / f"traced-{model_type}-{quant}.ingot"
    if not folder.exists():
        make_checkpoint(model_type, folder)
    if not artifact.exists():
        compile_model(folder, artifact, frontend="export", quant=quant)
    return folder, artifact


@pytest.mark.parametrize(
    "model_type",
    several(
        "gptj",
        "bert",
        "bloom",
        "codegen",
        "diffllama",
        "ernie4_5_moe",
        "gpt2",
        "gpt_neox",
        "laguna",
        "mpt",
        "olmo",
        "opt",
    ),
)
def test_traced_models_compile(parent: Path, record: Callable[[str, float], None], model_type: str) -> None:
    """Interleaved and stored rope, slopes, spread vectors, norms without weights, learned positions."""
    folder, artifact = compiled(model_type, parent, "none")
    with executing(artifact) as executor:
        found = in_steps(executor, SEQUENCES, STEPS)
    for logits, sequence in zip(found, SEQUENCES, strict=True):
        wide = logits.astype(np.float64)
        log_probs = wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True)
        difference = float(np.abs(log_probs - reference_log_probs(folder, sequence)).max())
        record(f"{model_type} (traced, ragged steps)", difference)
        assert difference <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["int8", "int4"])
@pytest.mark.parametrize("model_type", ["bert", "codegen", "gpt2", "gpt_neox", "olmo", "opt", "phi3"])
def test_traced_models_are_quantized(
    parent: Path, record: Callable[[str, float], None], model_type: str, quant: str
) -> None:
    """Matrices that lie transposed, fused or tied too: see test_interpreter."""
    _, artifact = compiled(model_type, parent, quant)
    expected = np.concatenate(interpreted(artifact))
    with executing(artifact) as executor:
        found = np.concatenate(in_steps(executor, SEQUENCES, STEPS))
    differences = np.abs(found - expected)
    record(f"{model_type} {quant} (traced, interpreter, largest)", float(differences.max()))
    assert np.median(differences) <= 2e-2
    assert differences.max() <= 2e-1
