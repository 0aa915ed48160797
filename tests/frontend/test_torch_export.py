"""Models traced from transformers: the same numbers and the same cost as models that are defined here."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.frontend import Model, load_model, torch_export
from ingot.ir import Module, evaluate
from ingot.ir.errors import CompileError, ConfigError
from ingot.passes import PipelineOptions, build_pipeline, run_passes

from ..tiny_models import make_tiny, reference_log_probs

TOKEN_IDS = np.random.default_rng(5).integers(0, 307, 37).astype(np.int32)
ALTERNATING = ["full_attention", "sliding_attention"] * 2
YARN = {"rope_type": "yarn", "rope_theta": 300.0, "factor": 4.0, "original_max_position_embeddings": 32}
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"num_key_value_heads": 1, "tie_word_embeddings": True, "attention_bias": True}),
    ("llama", {"dtype": "bfloat16", "rope_parameters": YARN}),
    ("mistral", {"sliding_window": 7}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 9, "layer_types": ALTERNATING}),
]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def logits(model: Model) -> npt.NDArray[np.float32]:
    inputs = {"token_ids": TOKEN_IDS, "positions": np.arange(len(TOKEN_IDS), dtype=np.int32)}
    (found,) = evaluate(model.module.forward, inputs, parameter=model.weights.read)
    return np.asarray(found)


def cost(module: Module) -> Counter[tuple[str, str]]:
    """Operators after all passes, each with what it gives; reshapes cost nothing."""
    compiled = run_passes(module, build_pipeline(PipelineOptions(max_seq_len=128))).module
    return Counter(
        (operation.operator, str(operation.results[0].type))
        for operation in compiled.forward.operations
        if operation.operator != "reshape"
    )


OTHERS = (
    *("gemma2", "gemma3_text", "glm", "glm4", "glm4_moe", "gpt_oss", "granite", "granitemoe", "mixtral"),
    *("olmo2", "olmoe", "phi", "phi3", "qwen2_moe", "qwen3_moe", "smollm3", "starcoder2"),
)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [*FAMILIES, *(pytest.param(name, {}, marks=pytest.mark.slow) for name in OTHERS)],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_both_frontends_agree_at_the_same_cost(
    parent: Path, architecture: str, options: dict[str, Any]
) -> None:
    folder = make_tiny(architecture, parent, **options)
    native, traced = load_model(folder, frontend="native"), load_model(folder, frontend="export")
    np.testing.assert_allclose(logits(traced), logits(native), rtol=0, atol=1e-5)
    assert cost(traced.module) == cost(native.module)
    for name in ("model_type", "vocab_size", "num_layers", "max_position_embeddings", "eos_token_ids"):
        assert getattr(traced.config, name) == getattr(native.config, name)


def make(parent: Path, config: Any) -> Path:
    """A checkpoint of any model that transformers builds."""
    import torch
    import transformers

    folder = parent / config.model_type
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            parameter.copy_(1 + 0.3 * noise if "norm" in name or "ln" in name else noise * 0.12)
    model.save_pretrained(folder)
    return folder


def gpt2(parent: Path, **fields: Any) -> Path:
    from transformers import GPT2Config

    sizes = {"vocab_size": 307, "n_embd": 48, "n_head": 6, "n_layer": 2, "n_positions": 64, "n_inner": 80}
    return make(parent, GPT2Config(**{**sizes, "bos_token_id": 1, "eos_token_id": 2, **fields}))


def test_a_model_of_no_family_is_traced_by_itself(parent: Path) -> None:
    folder = gpt2(parent)
    model = load_model(folder)
    assert (model.config.model_type, model.config.max_position_embeddings) == ("gpt2", 64)
    norms = [op.results[0].name for op in model.module.forward.operations if op.operator == "softmax"]
    assert re.fullmatch(
        r"ingot\.attention\S* \(transformer\.h\.0\.attn, \w+\.py:\d+\)", model.origins[norms[0]]
    )
    found = logits(model).astype(np.float64)
    found -= np.log(np.exp(found - found.max(-1, keepdims=True)).sum(-1, keepdims=True)) + found.max(
        -1, keepdims=True
    )
    np.testing.assert_allclose(found, reference_log_probs(folder, TOKEN_IDS.tolist()), rtol=0, atol=1e-4)
    with pytest.raises(ConfigError, match="architecture 'GPT2LMHeadModel' is not supported"):
        load_model(folder, frontend="native")
    with pytest.raises(CompileError, match="no frontend 'onnx'; frontends: auto, native, export"):
        load_model(folder, frontend="onnx")


def test_numbers_are_of_one_dimension(parent: Path) -> None:
    from transformers import Gemma2Config

    sizes = {"vocab_size": 307, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8}
    folder = make(parent, Gemma2Config(**sizes, **heads, max_position_embeddings=64))
    forward = load_model(folder, frontend="export").module.forward
    assert all(result.type.rank for operation in forward.operations for result in operation.results)


def test_where_torch_is_missing_it_is_said(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = gpt2(parent)
    monkeypatch.setattr(torch_export, "find_spec", lambda name: None)
    with pytest.raises(CompileError, match=r"with torch and transformers, not installed here: pip install"):
        load_model(folder, frontend="export")
    with pytest.raises(ConfigError, match=r"'GPT2LMHeadModel' is not supported"):
        load_model(folder)


def test_what_cannot_be_converted_is_named_with_its_place(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingot.frontend.torch_export import rules

    known = {name: rule for name, rule in rules.RULES.items() if name != "aten.layer_norm"}
    monkeypatch.setattr("ingot.frontend.torch_export.exported.RULES", known)
    expected = r"aten\.layer_norm\.default \(transformer\.h\.0\.ln_1, \w+\.py:\d+\): has no plain operator"
    with pytest.raises(CompileError, match=expected):
        load_model(gpt2(parent))


def test_a_config_that_is_no_causal_model_is_refused(parent: Path) -> None:
    folder = gpt2(parent)
    config = json.loads((folder / "config.json").read_text())
    other = parent / "clip"
    other.mkdir()
    (other / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "clip"}))
    with pytest.raises(ConfigError, match="model type 'clip' is no causal language model"):
        load_model(other, frontend="export")
