"""The ONNX backend: in float32 what the other backend computes, quantized as near to the model as that is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ingot import SamplingParams
from ingot.runtime.engine.engine import Engine
from ingot.runtime.execution.onnx_session import OnnxSession
from ingot.targets import read_manifest
from ingot.targets.devices import PROVIDERS

from ..compiled import WHOLE_GROUPS, compile_tiny
from ..tiny_models import ARCHITECTURES, make_tiny, reference_log_probs
from ..vector_models import make_embedder
from .test_formats import SUPER_BLOCKS
from .test_reference import SEQUENCES, TOLERANCE
from .test_vectors import CASES, compile_embedder
from .test_vectors import SEQUENCES as VECTOR_SEQUENCES

DEFAULT = ("gemma2", "deepseek_v3", "gpt_oss")
"""Soft caps and windows; latents, experts in groups; sinks and biased experts. Others are in the slow run."""

MODELS = [
    *DEFAULT,
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ARCHITECTURES
        if name not in (*DEFAULT, "gemma3", "mistral3", "qwen3_5", "qwen3_5_moe")
    ),
]


def _log_probs(artifact: Path, token_ids: list[int]) -> npt.NDArray[np.float32]:
    with Engine(artifact) as engine:
        return engine.score(token_ids)


@pytest.mark.parametrize("architecture", MODELS)
def test_both_backends_agree(parent: Path, record: Callable[[str, float], None], architecture: str) -> None:
    # The other backend's artifacts are those of the tests that compare it with transformers.
    model = {"tie_word_embeddings": True} if architecture.startswith("gemma") else {}
    artifact = compile_tiny(architecture, parent, backend="onnx", **model)
    expected = _log_probs(compile_tiny(architecture, parent, frontend="native", **model), SEQUENCES[0])
    params = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
    with Engine(artifact) as engine, Engine(artifact, max_num_seqs=3, max_num_batched_tokens=7) as chunked:
        found = engine.score(SEQUENCES[0])
        together = engine.generate(SEQUENCES, params)
        in_chunks = chunked.generate(SEQUENCES, params)
        alone = [engine.generate(prompt, params) for prompt in SEQUENCES]
    difference = float(np.abs(found - expected).max())
    record(f"{architecture} (onnx against tvm)", difference)
    assert difference <= TOLERANCE
    assert [output.token_ids for output in together] == [output.token_ids for output in alone]
    assert [output.token_ids for output in in_chunks] == [output.token_ids for output in alone]


def _divergence(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    return float((np.exp(expected) * (expected - found)).sum(axis=-1).mean())


@pytest.mark.parametrize(
    ("architecture", "quant", "kv_cache", "model"),
    [
        ("llama", "int4", "int4", WHOLE_GROUPS),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("llama", "int4", "auto", WHOLE_GROUPS),
                ("llama", "int8", "auto", WHOLE_GROUPS),
                ("mixtral", "int4", "auto", {**WHOLE_GROUPS, "intermediate_size": 96}),
                ("llama", "q4_k", "auto", SUPER_BLOCKS),
                ("llama", "nf4_g32", "auto", WHOLE_GROUPS),
                ("llama", "none", "int4", {"head_dim": 64}),
                ("gpt_oss", "none", "int8", {"head_dim": 64}),
                ("deepseek_v3", "none", "int8", {}),
            )
        ),
    ],
)
def test_quantized_it_is_as_near_to_the_model(
    parent: Path,
    record: Callable[[str, float], None],
    architecture: str,
    quant: str,
    kv_cache: str,
    model: dict[str, Any],
) -> None:
    expected = reference_log_probs(make_tiny(architecture, parent, **model), SEQUENCES[0])
    own, other = (
        _divergence(
            _log_probs(
                compile_tiny(architecture, parent, quant=quant, kv_cache=kv_cache, backend=backend, **model),
                SEQUENCES[0],
            ),
            expected,
        )
        for backend in ("onnx", "tvm")
    )
    kept = "" if kv_cache == "auto" else f", cache {kv_cache}"
    record(f"{architecture} {quant}{kept} (KL, onnx)", own)
    record(f"{architecture} {quant}{kept} (KL, tvm)", other)
    assert own <= 1.1 * other + 1e-4


@pytest.mark.parametrize(
    "label",
    [label if n == 0 else pytest.param(label, marks=pytest.mark.slow) for n, label in enumerate(CASES)],
)
def test_vectors_are_those_of_the_reference(
    parent: Path, record: Callable[[str, float], None], label: str
) -> None:
    case = CASES[label]
    embedder = make_embedder(case.architecture, parent, **case.model)
    artifact = compile_embedder(embedder, parent, dtype="float32", backend="onnx")
    expected = embedder.reference(VECTOR_SEQUENCES)
    with Engine(artifact, max_num_batched_tokens=100) as engine:
        found = engine.embed(VECTOR_SEQUENCES)
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    record(f"vectors: {label} (onnx)", difference)
    assert difference <= TOLERANCE


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    "architecture",
    ["gpt_oss", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lfm2", "qwen3_next", "llama"))],
)
def test_answers_are_the_same_whatever_happens_to_their_pages(
    parent: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, apart: bool
) -> None:
    if apart:  # as on a device whose memory ONNX Runtime alone reaches
        monkeypatch.setattr(OnnxSession, "reads_on_device", lambda session, name: True)
    artifact = compile_tiny(architecture, parent, backend="onnx")
    rng = np.random.default_rng(0)
    common = rng.integers(3, 290, 40).tolist()
    prompts = [common[: rng.integers(5, 40)] + rng.integers(3, 290, 20).tolist() for _ in range(16)]
    params = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
    with Engine(artifact, max_num_seqs=1) as engine:
        alone = [engine.generate(prompt, params).token_ids for prompt in prompts]
    memory = read_manifest(artifact).memory
    num_pages = 12 if memory.page_size == 16 else 8
    pages = memory.kv_bytes_per_token * memory.page_size * num_pages
    with Engine(artifact, max_num_seqs=8, max_num_batched_tokens=64, kv_memory=pages) as engine:
        together = [output.token_ids for output in engine.generate(prompts, params)]
        stats = engine.stats
        several = engine.generate(prompts[0], SamplingParams(max_tokens=4, n=3, temperature=0.0))
    assert together == alone
    assert [choice.token_ids for choice in several.choices] == [alone[0][:4]] * 3
    assert stats.num_prefix_tokens_hit > 0 or memory.page_size > 16


@pytest.mark.parametrize("device", [device for device in PROVIDERS if device != "cpu"])
@pytest.mark.parametrize("architecture", ["llama", "gpt_oss", "lfm2"])
def test_another_device_computes_the_same(parent: Path, architecture: str, device: str) -> None:
    if PROVIDERS[device] not in pytest.importorskip("onnxruntime").get_available_providers():
        pytest.skip(f"this ONNX Runtime is not built for {device}")
    artifact = compile_tiny(architecture, parent, backend="onnx")
    params = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
    choices = SamplingParams(max_tokens=4, n=3, temperature=0.0)
    with Engine(artifact, device="cpu") as engine, Engine(artifact, device=device) as other:
        expected, found = (each.score(SEQUENCES[0]) for each in (engine, other))
        answers = [
            [answer.token_ids for answer in each.generate(SEQUENCES, params)] for each in (engine, other)
        ]
        several = other.generate(SEQUENCES[0], choices)
    assert float(np.abs(found - expected).max()) <= TOLERANCE
    assert answers[0] == answers[1]
    assert [choice.token_ids for choice in several.choices] == [answers[0][0][:4]] * 3
