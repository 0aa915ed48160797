"""Models that give vectors, in float32 against ``transformers`` and numpy, and quantized by their cosines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.ir import parse_module
from ingot.runtime.engine.engine import Engine

from ..compiled import WHOLE_GROUPS
from ..vector_models import Dense, Embedder, make_embedder, make_encoder, rerank_logits
from .checked import Findings, layer_kinds

TOLERANCE = 1e-5
LENGTHS = (5, 68, 1, 33, 16, 64, 2)
SEQUENCES = [np.random.default_rng(seed).integers(3, 300, n).tolist() for seed, n in enumerate(LENGTHS)]


@dataclass(frozen=True)
class Case:
    """A model; what is compared with the reference is relative to the vectors' largest element."""

    architecture: str
    model: dict[str, Any] = field(default_factory=dict)


IDENTITY = "torch.nn.modules.linear.Identity"
CASES = {
    "bert, mean, normalized": Case("bert"),
    "bert, cls": Case("bert", {"pooling": "cls", "normalize": False, "hidden_act": "gelu_new"}),
    "bert, max, beside a head, from bfloat16": Case(
        "bert", {"pooling": "max", "head": "ForMaskedLM", "dtype": "bfloat16"}
    ),
    "roberta, mean, one token type": Case("roberta", {"type_vocab_size": 1}),
    "xlm-roberta, cls, dense": Case("xlm-roberta", {"pooling": "cls", "layers": (Dense(31), Dense(17))}),
    "distilbert, mean, normalized": Case("distilbert", {"activation": "gelu"}),
    "qwen3, last, normalized": Case("qwen3", {"pooling": "lasttoken"}),
    "llama, mean, dense": Case(
        "llama",
        {
            "layers": (Dense(31, activation=IDENTITY), Dense(17, bias=False, activation=IDENTITY)),
            "tie_word_embeddings": True,
        },
    ),
    "gemma3, both ways, mean, dense": Case(
        "gemma3_text",
        {
            "layers": (
                Dense(61, bias=False, activation=IDENTITY),
                Dense(31, bias=False, activation=IDENTITY),
            ),
            "use_bidirectional_attention": True,
            "sliding_window": 16,
            "tie_word_embeddings": True,
        },
    ),
    "mistral, last, window": Case(
        "mistral", {"pooling": "lasttoken", "sliding_window": 7, "normalize": False}
    ),
}


def compile_embedder(embedder: Embedder, parent: Path, **options: Any) -> Path:
    described = hashlib.sha256(repr((str(embedder.folder), options)).encode()).hexdigest()[:10]
    output = parent / f"{embedder.folder.name}-{described}.ingot"
    if not output.exists():
        compile_model(embedder.folder, output, **options)
    return output


@dataclass(frozen=True)
class Compiled:
    label: str
    architecture: str
    artifact: Path
    embedder: Embedder
    engine: Engine


@pytest.fixture(scope="module", params=CASES)
def compiled(request: pytest.FixtureRequest, parent: Path) -> Iterator[Compiled]:
    case = CASES[request.param]
    embedder = make_embedder(case.architecture, parent, **case.model)
    artifact = compile_embedder(embedder, parent, dtype="float32")
    with Engine(artifact, max_num_batched_tokens=100) as engine:
        yield Compiled(request.param, case.architecture, artifact, embedder, engine)


def test_vectors_are_those_of_the_reference(
    compiled: Compiled, record: Callable[[str, float], None], findings: Callable[[str], Findings]
) -> None:
    expected = compiled.embedder.reference(SEQUENCES)
    found = compiled.engine.embed(SEQUENCES)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    label = f"vectors: {compiled.label}"
    record(label, difference)
    module = parse_module((compiled.artifact / "ir" / "ragged.ir").read_text())
    findings(compiled.architecture).add("native", label, difference, layer_kinds(module))
    assert difference <= TOLERANCE
    if compiled.embedder.normalize:
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)


def test_no_bit_depends_on_the_batch(compiled: Compiled) -> None:
    together = compiled.engine.embed(SEQUENCES)
    for sequence, vector in zip(SEQUENCES, together, strict=True):
        np.testing.assert_array_equal(compiled.engine.embed(sequence), vector)
    order = np.random.default_rng(1).permutation(len(SEQUENCES))
    shuffled = compiled.engine.embed([SEQUENCES[index] for index in order])
    np.testing.assert_array_equal(shuffled, together[order])


def cosines(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    result: npt.NDArray[np.float32] = (left * right).sum(axis=1) / lengths
    return result


QUANTIZED = {
    "qwen3, last": Case("qwen3", {"pooling": "lasttoken", **WHOLE_GROUPS}),
    "bert, mean": Case("bert", {"hidden_size": 96, "intermediate_size": 160, "max_position_embeddings": 70}),
}


@pytest.mark.parametrize(
    ("label", "quant", "least"),
    [
        pytest.param("qwen3, last", "int8", 0.997, marks=pytest.mark.slow),
        ("qwen3, last", "int4", 0.8),
        ("bert, mean", "int8", 0.997),
        pytest.param("bert, mean", "int4", 0.8, marks=pytest.mark.slow),
    ],
)
def test_what_quantizing_costs(
    label: str, quant: str, least: float, parent: Path, record: Callable[[str, float], None]
) -> None:
    case = QUANTIZED[label]
    embedder = make_embedder(case.architecture, parent, **case.model)
    expected = embedder.reference(SEQUENCES)
    with Engine(compile_embedder(embedder, parent, quant=quant)) as engine:
        found = engine.embed(SEQUENCES)
        np.testing.assert_array_equal(engine.embed(SEQUENCES[1]), found[1])
    lowest = float(cosines(found, expected).min())
    record(f"1 - cosine, {quant}: {label}", 1 - lowest)
    assert lowest >= least


RERANKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "roberta, one token type": ("roberta", {"type_vocab_size": 1}),
    "xlm-roberta, scores as they are": (
        "xlm-roberta",
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
    ),
}
DOCUMENTS = ["one", "", "three and a bit", "four" * 8]


@pytest.mark.parametrize("label", RERANKERS)
def test_rankings_are_those_of_the_reference(
    label: str, parent: Path, record: Callable[[str, float], None]
) -> None:
    kind, overrides = RERANKERS[label]
    folder = make_encoder(kind, parent, head="ForSequenceClassification", num_labels=1, **overrides)
    artifact = parent / f"{folder.name}.ingot"
    compile_model(folder, artifact)
    with Engine(artifact) as engine:
        pairs = engine.encode_pairs("some query", DOCUMENTS)
        found = engine.rerank("some query", DOCUMENTS)
        alone = [engine.rerank("some query", [document])[0] for document in DOCUMENTS]
    np.testing.assert_array_equal(found, alone)
    expected = rerank_logits(folder, [(pair.token_ids, pair.token_types or ()) for pair in pairs])
    assert expected.std() > 0.01
    if "sentence_transformers" not in overrides:
        expected = 1 / (1 + np.exp(-expected))
    difference = float(np.abs(found - expected).max())
    record(f"rankings: {label}", difference)
    assert difference <= TOLERANCE


def test_commands_say_what_the_model_is_not_for(parent: Path) -> None:
    from click.testing import CliRunner
    from ingot.runtime.commands.bench import bench
    from ingot.runtime.commands.inspect import inspect
    from ingot.runtime.commands.run import run
    from ingot.runtime.commands.verify import verify

    embedder = make_embedder("bert", parent, prompts={"query": "find: "})
    artifact = str(compile_embedder(embedder, parent))
    runner = CliRunner()
    for command, arguments in (
        (run, [artifact, "hello"]),
        (bench, [artifact]),
        (verify, [artifact, "--reference", str(embedder.folder)]),
    ):
        result = runner.invoke(command, arguments)
        assert result.exit_code == 1, result.output
        assert "gives embeddings; it generates no text" in result.output
    shown = runner.invoke(inspect, [artifact])
    assert shown.exit_code == 0, shown.output
    assert "embeddings of 48 numbers; its prompts: query" in shown.output
    assert "KV cache" not in shown.output
    assert runner.invoke(inspect, [artifact, "--ir", "ragged"]).output.startswith("module")
