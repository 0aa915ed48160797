"""Whole models, compiled for CUDA and run by the emulated driver, next to the same models on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.runtime.engine.engine import Engine
from ingot.runtime.sampling.sampling_params import SamplingParams
from ingot.targets import read_manifest

from ...compiled import WHOLE_GROUPS, WHOLE_GROUPS_OF_LATENTS
from ...tiny_models import make_tiny
from .emulated import needs_compiler

pytestmark = needs_compiler

PROMPTS = ([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6], [27, 18, 28], [7])
CUDA = "cuda:sm_90"

FEW: dict[str, dict[str, Any]] = {
    "llama in int8, float16 pages": {
        "architecture": "llama",
        "quant": "int8",
        "dtype": "float16",
        **WHOLE_GROUPS,
    },
    "deepseek_v3 in float32": {"architecture": "deepseek_v3", "num_hidden_layers": 2, "num_tokens": 2},
}
MORE: dict[str, dict[str, Any]] = {
    "llama in float32": {"architecture": "llama"},
    **{
        f"{name} in float32": {"architecture": name}
        for name in ("gemma2", "gemma3_text", "phi", "phi3", "cohere")
    },
    **{
        f"{name} in float32": {"architecture": name}
        for name in ("starcoder2", "glm4", "olmo2", "qwen3", "granite")
    },
    **{f"{name} in float32": {"architecture": name} for name in ("granitemoehybrid", "lfm2", "qwen3_5_text")},
    **{
        f"{name} in float32": {"architecture": name}
        for name in ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "granitemoeshared", "phimoe")
    },
    **{
        f"{name} in float32": {"architecture": name}
        for name in ("gpt_oss", "deepseek_v2", "dots1", "glm4_moe", "glm4_moe_lite", "youtu")
    },
    **{
        f"{name} in {quant}": {"architecture": name, "quant": quant, **WHOLE_GROUPS}
        for name in ("mixtral", "gpt_oss")
        for quant in ("int8", "int4")
    },
    **{
        f"deepseek_v3 in {quant}": {
            "architecture": "deepseek_v3",
            "quant": quant,
            **WHOLE_GROUPS,
            **WHOLE_GROUPS_OF_LATENTS,
        }
        for quant in ("int8", "int4")
    },
    "deepseek_v3 in float32, int8 pages": {"architecture": "deepseek_v3", "kv_cache": "int8"},
    "deepseek_v3 in bfloat16": {"architecture": "deepseek_v3", "dtype": "bfloat16"},
    "mixtral in float16": {"architecture": "mixtral", "dtype": "float16"},
    "llama in bfloat16": {"architecture": "llama", "dtype": "bfloat16"},
    "gemma2 in float16": {"architecture": "gemma2", "dtype": "float16"},
    "llama in float32, int8 pages": {"architecture": "llama", "kv_cache": "int8", **WHOLE_GROUPS},
    "gemma2 in nf4, int4 pages": {
        "architecture": "gemma2",
        "quant": "nf4_g32",
        "kv_cache": "int4",
        **WHOLE_GROUPS,
    },
    "phi in fp8, int8 pages of whole heads": {
        "architecture": "phi",
        "quant": "fp8_e4m3_row",
        "kv_cache": "int8",
    },
    "llama in q4_k": {
        "architecture": "llama",
        "quant": "q4_k",
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "num_hidden_layers": 2,
        "num_tokens": 2,
    },
    "gpt_oss in mxfp4": {"architecture": "gpt_oss", "quant": "mxfp4", "num_tokens": 2, **WHOLE_GROUPS},
    "qwen2 in int4": {"architecture": "qwen2", "quant": "int4", **WHOLE_GROUPS},
    "mistral in float16, a window": {"architecture": "mistral", "sliding_window": 21, "dtype": "float16"},
}
MODEL_OPTIONS = {
    "architecture",
    *WHOLE_GROUPS,
    *WHOLE_GROUPS_OF_LATENTS,
    "num_hidden_layers",
    "sliding_window",
}


def compiled(options: dict[str, Any], tmp_path: Path, target: str) -> Path:
    model = {key: value for key, value in options.items() if key in MODEL_OPTIONS}
    folder = make_tiny(model.pop("architecture"), tmp_path, **model)
    settings = {"dtype": "float32"} | {
        key: value for key, value in options.items() if key not in MODEL_OPTIONS
    }
    targets = ["cpu", target]
    return compile_model(folder, tmp_path / "both.ingot", targets=targets, max_seq_len=96, **settings).path


def log_probs(artifact: Path, device: str, num_tokens: int) -> list[list[dict[int, float]]]:
    """Of the likeliest tokens of greedy answers, which chunks of nine tokens and batches make."""
    params = SamplingParams(max_tokens=num_tokens, temperature=0.0, logprobs=8, ignore_eos=True)
    with Engine(artifact, device=device, max_num_batched_tokens=40, kv_memory="1MiB") as engine:
        answers = engine.generate([list(prompt) for prompt in PROMPTS], params)
    every = [answer.choices[0].logprobs or () for answer in answers]
    return [[{one.token_id: one.logprob for one in token.top} for token in tokens] for tokens in every]


def differences(artifact: Path, num_tokens: int, gpu_name: str) -> list[float]:
    cpu, gpu = (log_probs(artifact, device, num_tokens) for device in ("cpu", gpu_name))
    found = []
    for ours, theirs in zip(cpu, gpu, strict=True):
        for left, right in zip(ours, theirs, strict=True):
            shared = left.keys() & right.keys()
            assert len(shared) >= 5
            found += [abs(left[token] - right[token]) for token in shared]
    return found


def drawn(artifact: Path, logprobs: int | None, gpu_name: str) -> list[list[int]]:
    """The tokens of answers: drawn on the device, or where log-probabilities are asked by the host."""
    params = SamplingParams(max_tokens=5, temperature=1.5, top_p=0.9, seed=3, n=2, logprobs=logprobs)
    with Engine(artifact, device=gpu_name, max_num_batched_tokens=40, kv_memory="1MiB") as engine:
        answers = engine.generate([list(prompt) for prompt in PROMPTS], params)
    return [list(choice.token_ids) for answer in answers for choice in answer.choices]


def check(options: dict[str, Any], tmp_path: Path, target: str = CUDA) -> None:
    """Within rounding; where rows become codes or bfloat16, a value between two can become either."""
    options, gpu_name = dict(options), target.partition(":")[0]
    num_tokens = options.pop("num_tokens", 6)
    artifact = compiled(options, tmp_path, target)
    if options == {"architecture": "llama"}:
        assert drawn(artifact, None, gpu_name) == drawn(artifact, 0, gpu_name)
    found = differences(artifact, num_tokens, gpu_name)
    if {"quant", "kv_cache"} & options.keys() or options.get("dtype") == "bfloat16":
        assert np.median(found) < 5e-3
        assert max(found) < 0.2
    else:
        assert max(found) < (1e-4 if options.get("dtype", "float32") == "float32" else 1e-3)


@pytest.mark.parametrize("name", FEW)
def test_a_gpu_computes_what_the_cpu_does(name: str, gpu: Path, tmp_path: Path) -> None:
    check(FEW[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_so_it_does_with_other_families_and_types(name: str, gpu: Path, tmp_path: Path) -> None:
    check(MORE[name], tmp_path)


@pytest.mark.slow
def test_states_go_where_pages_go(gpu: Path, tmp_path: Path) -> None:
    """Of a recurrent model: prefixes are shared, answers fork, and pages are given up and computed again."""
    folder = make_tiny("granitemoehybrid", tmp_path)
    artifact = compile_model(
        folder, tmp_path / "both.ingot", targets=["cpu", CUDA], max_seq_len=96, dtype="float32", page_size=16
    ).path
    memory = read_manifest(artifact).memory
    prompts = [[*range(40)], [*range(20), 7, 8], [*range(40)], [*range(17)]]
    params = SamplingParams(max_tokens=20, temperature=0.3, n=2, seed=5, logprobs=3, ignore_eos=True)
    found = []
    for device in ("cpu", "cuda"):
        num_bytes = 11 * memory.page_size * memory.kv_bytes_per_token
        with Engine(artifact, device=device, max_num_batched_tokens=30, kv_memory=num_bytes) as engine:
            answers = engine.generate(prompts, params)
            assert engine.stats.num_preemptions > 0
            assert engine.stats.num_prefix_tokens_hit > 0
        found.append([choice for answer in answers for choice in answer.choices])
    for left, right in zip(*found, strict=True):
        assert left.token_ids == right.token_ids
        for ours, theirs in zip(left.logprobs or (), right.logprobs or (), strict=True):
            np.testing.assert_allclose(ours.logprob, theirs.logprob, atol=1e-4)
