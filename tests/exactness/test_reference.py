"""Artifacts in float32 against ``transformers``: log-probabilities within 1e-4, greedy tokens the same.

What is found is what ``ingot models`` tells of a family; ``--update-checked`` writes it down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot import SamplingParams
from ingot.ir import parse_module
from ingot.ir.errors import IngotError
from ingot.runtime.engine.engine import Engine

from ..compiled import compile_tiny
from ..tiny_models import make_tiny, reference_log_probs
from .checked import Findings, layer_kinds

LENGTHS = (71, 1, 33, 16)
SEQUENCES = [np.random.default_rng(seed).integers(0, 300, n).tolist() for seed, n in enumerate(LENGTHS)]
NUM_GREEDY = 20
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """A checkpoint; ``stepwise`` where transformers computes something else for a prompt at once.

    With ``longest_only`` it does so for short sequences. A ``slow`` one is of an architecture all of whose
    parts others have.
    """

    architecture: str
    model: dict[str, Any] = field(default_factory=dict)
    stepwise: bool = False
    longest_only: bool = False
    slow: bool = False


def rope(kind: str, **parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 300.0, **parameters}}


def longrope(*, original: int, maximum: int) -> dict[str, Any]:
    factors = {"short_factor": [1.0, 1.1, 1.3, 1.2, 1.5], "long_factor": [2.0, 5.0, 7.0, 3.0, 9.0]}
    return {
        "hidden_size": 60,
        "original_max_position_embeddings": original,
        "max_position_embeddings": maximum,
        **rope("longrope", **factors),
    }


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ALTERNATING = ["full_attention", "sliding_attention"] * 2
CASES = {
    "llama": Case("llama"),
    "llama tied": Case("llama", {"tie_word_embeddings": True}),
    "llama biases": Case("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama as many KV heads": Case("llama", {"num_key_value_heads": 6}),
    "llama one KV head": Case("llama", {"num_key_value_heads": 1}),
    "llama sharded": Case("llama", {"shard_size": "40KB"}),
    "llama from bfloat16": Case("llama", {"stored": "bfloat16"}),
    "llama from float16": Case("llama", {"stored": "float16", "tie_word_embeddings": True}),
    "llama rope=linear": Case("llama", rope("linear", factor=4.0)),
    "llama rope=llama3": Case("llama", rope("llama3", **LLAMA3, original_max_position_embeddings=16)),
    "llama rope=dynamic": Case(
        "llama", {**rope("dynamic", factor=3.0), "max_position_embeddings": 32}, stepwise=True
    ),
    "llama rope=yarn": Case("llama", rope("yarn", factor=4.0, original_max_position_embeddings=32)),
    "mistral window=7": Case("mistral", {"sliding_window": 7}),
    "mistral window=66": Case("mistral", {"sliding_window": 66}),
    "deepseek_v2": Case("deepseek_v2", slow=True),
    "deepseek_v2 no experts, biases": Case(
        "deepseek_v2", {"first_k_dense_replace": 4, "attention_bias": True, "mlp_bias": True}
    ),
    "deepseek_v2 direct queries, groups of experts, yarn": Case(
        "deepseek_v2",
        {
            "q_lora_rank": None,
            "topk_method": "group_limited_greedy",
            **rope("yarn", factor=4.0, original_max_position_embeddings=32, mscale=0.7, mscale_all_dim=0.7),
        },
    ),
    "deepseek_v3": Case("deepseek_v3"),
    "deepseek_v3 direct queries, biases, tied": Case(
        "deepseek_v3", {"q_lora_rank": None, "attention_bias": True, "tie_word_embeddings": True}
    ),
    "deepseek_v3 halves turn together, yarn": Case(
        "deepseek_v3",
        {
            "rope_interleave": False,
            "norm_topk_prob": False,
            **rope("yarn", factor=4.0, original_max_position_embeddings=32, mscale=0.7, mscale_all_dim=1.3),
        },
    ),
    "dots1, windows": Case("dots1", {"norm_topk_prob": True}, slow=True),
    "glm4_moe_lite": Case("glm4_moe_lite", slow=True),
    "glm4_moe_lite direct queries, two plain layers": Case(
        "glm4_moe_lite",
        {"q_lora_rank": None, "mlp_layer_types": ["dense", "dense", "sparse", "sparse"]},
        slow=True,
    ),
    "youtu, tied": Case("youtu", {"tie_word_embeddings": True}, slow=True),
    "cohere, side by side, layer norms without biases": Case("cohere", slow=True),
    "cohere tied, biases, as many KV heads": Case(
        "cohere", {"tie_word_embeddings": True, "attention_bias": True, "num_key_value_heads": 6}, slow=True
    ),
    "cohere2, windows, layers without rope": Case("cohere2", {"tie_word_embeddings": True}, slow=True),
    "ernie4_5": Case("ernie4_5", slow=True),
    "ernie4_5 tied, biases": Case("ernie4_5", {"tie_word_embeddings": True, "use_bias": True}, slow=True),
    "exaone4, norms after, windows, layers without rope": Case("exaone4", slow=True),
    "exaone4 tied, no windows": Case(
        "exaone4",
        {"tie_word_embeddings": True, "sliding_window": None, "layer_types": ["full_attention"] * 4},
        slow=True,
    ),
    "olmo3, norms after, windows": Case("olmo3", slow=True),
    "olmo3 one rope stretched, biases": Case(
        "olmo3",
        {
            "attention_bias": True,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 300.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
            },
        },
        slow=True,
    ),
    "seed_oss": Case("seed_oss", slow=True),
    "seed_oss tied, all biases": Case(
        "seed_oss",
        {"tie_word_embeddings": True, "attention_out_bias": True, "mlp_bias": True},
        slow=True,
    ),
    "gemma3, its text": Case("gemma3", {"tie_word_embeddings": True}, slow=True),
    "mistral3, its text": Case("mistral3", {"sliding_window": 9}, slow=True),
    "qwen3_5, its text": Case("qwen3_5", slow=True),
    "qwen3_5_moe, its text": Case("qwen3_5_moe", {"tie_word_embeddings": True}, slow=True),
    "mixtral": Case("mixtral"),
    "mixtral tied, window": Case("mixtral", {"tie_word_embeddings": True, "sliding_window": 9}),
    "qwen2": Case("qwen2"),
    "qwen2 tied, window in the last layer": Case(
        "qwen2",
        {
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 3,
        },
    ),
    "qwen2_moe": Case("qwen2_moe"),
    "qwen2_moe normed, one plain layer, windows": Case(
        "qwen2_moe",
        {
            "norm_topk_prob": True,
            "mlp_only_layers": [1],
            "use_sliding_window": True,
            "sliding_window": 9,
            "max_window_layers": 3,
        },
    ),
    "granitemoehybrid": Case("granitemoehybrid"),
    "granitemoehybrid tied, rope, biases, attention first": Case(
        "granitemoehybrid",
        {
            "tie_word_embeddings": True,
            "position_embedding_type": "rope",
            "attention_bias": True,
            "mamba_proj_bias": True,
            "mamba_conv_bias": False,
            "mamba_d_conv": 3,
            "layer_types": ["full_attention", "linear_attention", "linear_attention", "full_attention"],
        },
    ),
    "granitemoehybrid from bfloat16, more heads": Case(
        "granitemoehybrid", {"stored": "bfloat16", "mamba_n_heads": 32, "mamba_d_state": 37}
    ),
    "granitemoehybrid experts, rope": Case(
        "granitemoehybrid",
        {"num_local_experts": 5, "intermediate_size": 44, "position_embedding_type": "rope"},
    ),
    "granitemoehybrid experts, all chosen, tied, biases, from bfloat16": Case(
        "granitemoehybrid",
        {
            "num_local_experts": 3,
            "num_experts_per_tok": 3,
            "tie_word_embeddings": True,
            "attention_bias": True,
            "stored": "bfloat16",
        },
    ),
    "granitemoeshared": Case("granitemoeshared", slow=True),
    "lfm2": Case("lfm2"),
    "lfm2 tied, biases, four taps, more attention": Case(
        "lfm2",
        {
            "tie_word_embeddings": True,
            "conv_bias": True,
            "conv_L_cache": 4,
            "layer_types": ["conv", "full_attention", "conv", "full_attention"],
        },
    ),
    "lfm2 from bfloat16, attention first, two taps": Case(
        "lfm2",
        {"stored": "bfloat16", "conv_L_cache": 2, "layer_types": ["full_attention", "conv", "conv", "conv"]},
    ),
    "qwen3": Case("qwen3"),
    "qwen3 tied, biases, windows": Case(
        "qwen3",
        {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 9,
            "layer_types": ALTERNATING,
        },
    ),
    "qwen3_next": Case("qwen3_next"),
    "qwen3_next tied, biases, two plain layers, three taps, rope over whole heads": Case(
        "qwen3_next",
        {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_only_layers": [0, 2],
            "norm_topk_prob": False,
            "linear_conv_kernel_dim": 3,
            "linear_num_value_heads": 3,
            "layer_types": ["full_attention", "linear_attention", "linear_attention", "full_attention"],
            **rope("default", partial_rotary_factor=1.0),
        },
    ),
    "qwen3_next from bfloat16, wide heads, no experts": Case(
        "qwen3_next",
        {
            "stored": "bfloat16",
            "num_experts": 0,
            "linear_key_head_dim": 37,
            "linear_value_head_dim": 83,
            "linear_num_key_heads": 1,
        },
    ),
    "qwen3_5_text": Case("qwen3_5_text", slow=True),
    "qwen3_5_text tied, biases, attention first": Case(
        "qwen3_5_text",
        {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "linear_num_value_heads": 3,
            "layer_types": ["full_attention", "linear_attention", "linear_attention", "linear_attention"],
        },
        slow=True,
    ),
    "qwen3_5_moe_text": Case("qwen3_5_moe_text", slow=True),
    "qwen3_5_moe_text tied, from bfloat16": Case(
        "qwen3_5_moe_text",
        {"tie_word_embeddings": True, "stored": "bfloat16", "num_experts_per_tok": 1},
        slow=True,
    ),
    "gemma, tied": Case("gemma", {"tie_word_embeddings": True}),
    "gemma2, soft caps, windows": Case("gemma2", {"tie_word_embeddings": True}),
    "gemma3, two ropes, windows": Case("gemma3_text", {"tie_word_embeddings": True}),
    "glm, neighbours turn": Case("glm", {"tie_word_embeddings": True}, slow=True),
    "glm4, neighbours turn": Case("glm4"),
    "granite, multipliers": Case("granite", {"tie_word_embeddings": True, "attention_bias": True}),
    "olmo2, norms after": Case("olmo2"),
    "phi, side by side": Case("phi"),
    "phi, side by side, norms of heads": Case(
        "phi", {"qk_layernorm": True, "head_dim": 8, **rope("default", partial_rotary_factor=0.5)}
    ),
    "phi3, short longrope": Case("phi3", longrope(original=96, maximum=96)),
    "phi3, long longrope": Case("phi3", longrope(original=32, maximum=128), longest_only=True),
    "smollm3, layers without rope": Case("smollm3", {"use_sliding_window": True, "sliding_window": 21}),
    "starcoder2, layer norms": Case("starcoder2", {"tie_word_embeddings": True, "sliding_window": 19}),
    "erf gelu": Case("llama", {"hidden_act": "gelu"}),
    "glm4_moe, groups": Case("glm4_moe"),
    "glm4_moe, norms of heads, biases, no groups": Case(
        "glm4_moe",
        {
            "use_qk_norm": True,
            "attention_bias": True,
            "norm_topk_prob": False,
            "n_group": 1,
            "topk_group": 1,
            "n_shared_experts": 2,
        },
    ),
    "gpt_oss, sinks, windows": Case("gpt_oss"),
    "granitemoe, tied": Case("granitemoe", {"tie_word_embeddings": True, "attention_bias": True}, slow=True),
    "olmoe, norms of all heads": Case("olmoe", {"norm_topk_prob": True}, slow=True),
    "phimoe, biases": Case("phimoe", {"attention_bias": True, "lm_head_bias": True}),
    "qwen3_moe": Case("qwen3_moe", slow=True),
    "qwen3_moe normed, every second layer, biases": Case(
        "qwen3_moe", {"norm_topk_prob": True, "decoder_sparse_step": 2, "attention_bias": True}
    ),
}


ALWAYS = ("llama biases", "llama from bfloat16", "llama rope=dynamic", "llama rope=llama3")


@dataclass(frozen=True)
class Compiled:
    """A case's artifact and checkpoint."""

    label: str
    frontend: str
    case: Case
    artifact: Path
    checkpoint: Path

    def reference(self, token_ids: list[int]) -> npt.NDArray[np.float32]:
        return reference_log_probs(self.checkpoint, token_ids, stepwise=self.case.stepwise)


def _params() -> Iterator[object]:
    """All cases, by both frontends.

    By default run the first of each architecture, and what the compiler does otherwise than usual, as they
    are defined here. The others are in the slow run: compiling all takes minutes, and most are compared in
    any run by what the interpreter makes of their graphs.
    """
    seen: set[str] = set()
    for name, case in CASES.items():
        is_first = case.architecture not in seen and not case.slow
        is_default = is_first or name in ALWAYS
        seen.add(case.architecture)
        marks = [] if is_default else [pytest.mark.slow]
        yield pytest.param((name, "native"), marks=marks, id=name)
        yield pytest.param((name, "export"), marks=[pytest.mark.slow], id=f"{name}; traced")


@pytest.fixture(scope="module", params=_params())
def compiled(request: pytest.FixtureRequest, parent: Path, findings: Callable[[str], Findings]) -> Compiled:
    label, frontend = request.param
    case = CASES[label]
    length = 128 if case.stepwise else None
    try:
        artifact = compile_tiny(
            case.architecture, parent, max_seq_len=length, frontend=frontend, **case.model
        )
    except IngotError as error:
        if frontend == "native":
            raise
        findings(case.architecture).add(frontend, label, str(error))
        pytest.skip(f"refused: {error}")
    options = {{"stored": "dtype"}.get(name, name): value for name, value in case.model.items()}
    checkpoint = make_tiny(case.architecture, parent, **options)
    return Compiled(label, frontend, case, artifact, checkpoint)


@pytest.fixture(scope="module")
def engine(compiled: Compiled) -> Iterator[Engine]:
    with Engine(compiled.artifact) as engine:
        yield engine


def test_log_probabilities_are_those_of_the_reference(
    compiled: Compiled,
    engine: Engine,
    record: Callable[[str, float], None],
    findings: Callable[[str], Findings],
) -> None:
    expected = compiled.reference(SEQUENCES[0])
    assert expected.std() > 0.5, "logits are flat: the comparison would say nothing"
    found = engine.score(SEQUENCES[0])
    assert found.shape == expected.shape
    difference = float(np.abs(found - expected).max())
    record(compiled.label if compiled.frontend == "native" else f"{compiled.label}; traced", difference)
    module = parse_module((compiled.artifact / "ir" / "paged.ir").read_text())
    found_of_family = findings(compiled.case.architecture)
    found_of_family.add(compiled.frontend, compiled.label, difference, layer_kinds(module))
    assert difference <= TOLERANCE


def test_greedy_tokens_are_those_of_the_reference(compiled: Compiled, engine: Engine) -> None:
    params = SamplingParams(max_tokens=NUM_GREEDY, temperature=0.0, ignore_eos=True, logprobs=0)
    together = engine.generate(SEQUENCES, params)
    with Engine(compiled.artifact, max_num_seqs=3, max_num_batched_tokens=7) as chunked:
        in_chunks = chunked.generate(SEQUENCES, params)
    for prompt, output, other in zip(SEQUENCES, together, in_chunks, strict=True):
        alone = engine.generate(prompt, params)
        assert len(output.token_ids) == NUM_GREEDY
        assert (alone.token_ids, alone.logprobs) == (output.token_ids, output.logprobs)
        assert (other.token_ids, other.logprobs) == (output.token_ids, output.logprobs)

    longest = 0 if compiled.case.longest_only else 2
    prompt, tokens = SEQUENCES[longest], list(together[longest].token_ids)
    rows = compiled.reference(prompt + tokens[:-1])[len(prompt) - 1 :]
    second, first = np.partition(rows, -2, axis=-1)[:, -2:].T
    sure = first - second > 1e-3
    np.testing.assert_array_equal(np.array(tokens)[sure], rows.argmax(axis=-1)[sure])
    assert sure.sum() > NUM_GREEDY // 2, "the reference hesitates too often for this to say much"
