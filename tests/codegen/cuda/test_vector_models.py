"""Models that give vectors, compiled for CUDA and run by the emulated driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.runtime.engine.engine import Engine

from ...compiled import WHOLE_GROUPS
from ...vector_models import Dense, make_embedder, make_encoder, rerank_logits
from .emulated import needs_compiler

pytestmark = needs_compiler

LENGTHS = (5, 40, 1, 33)
SEQUENCES = [np.random.default_rng(seed).integers(3, 300, n).tolist() for seed, n in enumerate(LENGTHS)]

EXACT: dict[str, dict[str, Any]] = {
    "bert, cls": {"architecture": "bert", "pooling": "cls", "normalize": False},
    "distilbert": {"architecture": "distilbert"},
    "xlm-roberta, dense": {"architecture": "xlm-roberta", "layers": (Dense(31), Dense(17))},
    "qwen3, last": {"architecture": "qwen3", "pooling": "lasttoken"},
    "mistral, window": {"architecture": "mistral", "sliding_window": 7},
    "gemma3, both ways": {
        "architecture": "gemma3_text",
        "use_bidirectional_attention": True,
        "sliding_window": 16,
        "tie_word_embeddings": True,
    },
}
ROUNDED: dict[str, dict[str, Any]] = {
    "bert, max, float16": {"architecture": "bert", "pooling": "max", "dtype": "float16"},
    "qwen3, int8": {"architecture": "qwen3", "quant": "int8", **WHOLE_GROUPS},
}


def check_exactly(model: dict[str, Any], tmp_path: Path, target: str = "cuda:sm_90") -> None:
    """Vectors are those of transformers, and no bit of them depends on the batch."""
    embedder = make_embedder(**model, parent=tmp_path)
    artifact = compile_model(embedder.folder, tmp_path / "gpu.ingot", targets=[target], dtype="float32")
    expected = embedder.reference(SEQUENCES)
    with Engine(artifact.path, max_num_batched_tokens=50) as engine:
        found = engine.embed(SEQUENCES)
        alone = engine.embed(SEQUENCES[3:])
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    np.testing.assert_array_equal(found[3:], alone)


def test_an_encoder_gives_the_vectors_of_the_reference(gpu: Path, tmp_path: Path) -> None:
    check_exactly({"architecture": "bert", "num_hidden_layers": 1}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_so_do_other_models(name: str, gpu: Path, tmp_path: Path) -> None:
    check_exactly(EXACT[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_models_give_nearly_what_they_do_on_the_cpu(name: str, gpu: Path, tmp_path: Path) -> None:
    model = dict(ROUNDED[name])
    options = {key: model.pop(key) for key in ("dtype", "quant") if key in model}
    folder = make_embedder(**model, parent=tmp_path).folder
    artifact = compile_model(folder, tmp_path / "both.ingot", targets=["cpu", "cuda:sm_90"], **options)
    found = []
    for device in ("cpu", "cuda"):
        with Engine(artifact.path, device=device) as engine:
            found.append(engine.embed(SEQUENCES))
    np.testing.assert_allclose(*found, atol=2e-2 * float(np.abs(found[0]).max()))


@pytest.mark.slow
def test_rankings_are_those_of_the_reference(gpu: Path, tmp_path: Path) -> None:
    folder = make_encoder("bert", tmp_path, head="ForSequenceClassification", num_labels=1)
    artifact = compile_model(folder, tmp_path / "gpu.ingot", targets=["cuda:sm_90"])
    documents = ["one", "", "three and a bit"]
    with Engine(artifact.path) as engine:
        pairs = engine.encode_pairs("some query", documents)
        found = engine.rerank("some query", documents)
    logits = rerank_logits(folder, [(pair.token_ids, pair.token_types or ()) for pair in pairs])
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)
