"""How far one architecture of ``transformers`` comes when it is traced."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ingot.frontend.catalog import CheckedArchitecture
from ingot.frontend.catalog.checked import TOLERANCE

from ..tiny_models import write_tokenizer
from .tiny_configs import tiny_config

__all__ = ["TOLERANCE", "Outcome", "make_checkpoint", "try_one"]

NUM_TOKENS = 37
RECURRENT = (
    "mamba", "recurrent", "linear_attention", "gated delta", "rwkv", "xlstm", "nn.conv1d(", "lightning",
    "state space",
)  # fmt: skip


@dataclass
class Outcome:
    """How far one architecture came; differences are the largest of log-probabilities.

    The stages are ``none``, ``built``, ``traced``, ``interpreted``, ``runs``.
    """

    model_type: str
    stage: str = "none"
    interpreted: float | None = None
    compiled: float | None = None
    why: str = ""
    has_states: bool = False

    def checked(self) -> CheckedArchitecture:
        """The same, as the package keeps it."""
        return CheckedArchitecture(
            interpreted=self.interpreted,
            compiled=self.compiled,
            why=self.why,
            has_states=self.has_states,
            is_built=self.stage != "none",
        )


def try_one(model_type: str, class_name: str, to_compile: bool) -> Outcome:
    """Take one architecture as far as it goes."""
    outcome = Outcome(model_type)
    with tempfile.TemporaryDirectory() as name:
        try:
            _go(outcome, class_name, Path(name), to_compile)
        except Exception as error:  # what does not work is what this is for
            lines = [part.strip() for part in str(error).splitlines() if part.strip()]
            outcome.why = f"{'' if _ours(error) else type(error).__name__ + ': '}{lines[0] if lines else ''}"
            outcome.why = outcome.why.replace(name, model_type).replace(Path(name).name, model_type)
    return outcome


def _ours(error: Exception) -> bool:
    from ingot.ir.errors import IngotError

    return isinstance(error, IngotError)


def make_checkpoint(model_type: str, folder: Path) -> Any:
    """Save a tiny random model of any architecture to ``folder``, and return it.

    Its matrices divide into whole groups of 32, so that they can be quantized.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    config = tiny_config(model_type)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
    _fill(model)
    model.save_pretrained(folder)
    config.save_pretrained(folder)  # the whole, where the model is of a part of it
    write_tokenizer(folder)
    return model


def _go(outcome: Outcome, class_name: str, folder: Path, to_compile: bool) -> None:
    import torch

    outcome.has_states = _is_recurrent(class_name)
    model = make_checkpoint(outcome.model_type, folder)
    token_ids = np.random.default_rng(5).integers(2, 300, NUM_TOKENS)
    with torch.no_grad():
        logits = model(torch.tensor(token_ids[None]), use_cache=False).logits[0].float()
        expected = torch.log_softmax(logits, dim=-1).numpy()
    outcome.stage = "built"

    from ingot.frontend import load_model
    from ingot.ir import evaluate

    traced = load_model(folder, frontend="export")
    outcome.stage = "traced"
    inputs = {
        "token_ids": token_ids.astype(np.int32),
        "positions": np.arange(NUM_TOKENS, dtype=np.int32),
    }
    (found,) = evaluate(traced.module.forward, inputs, parameter=traced.weights.read)
    outcome.interpreted = _difference(np.asarray(found), expected)
    outcome.stage = "interpreted"
    if outcome.interpreted > TOLERANCE:
        outcome.why = f"differs by {outcome.interpreted:.1e} from transformers"
        return
    if to_compile:
        outcome.compiled = _difference(_run(folder, token_ids), expected)
        outcome.stage = "runs"
        if outcome.compiled > TOLERANCE:
            outcome.why = f"differs by {outcome.compiled:.1e} from transformers when compiled"


def _run(folder: Path, token_ids: Any) -> Any:
    from ingot.codegen import compile_model
    from ingot.runtime.execution.artifact import open_artifact
    from ingot.runtime.execution.tvm_executor import TvmExecutor
    from ingot.runtime.scheduling.step import LogitRows, SequenceChunk, Step

    compile_model(folder, folder / "x.ingot", frontend="export")
    executor = TvmExecutor(
        open_artifact(folder / "x.ingot"), kv_memory=None, max_num_seqs=2, max_num_batched_tokens=64
    )
    pages, rows = tuple(range(-(-NUM_TOKENS // executor.page_size))), []
    for start, stop in ((0, 20), (20, 21), (21, NUM_TOKENS)):
        tokens = tuple(int(token) for token in token_ids[start:stop])
        chunk = SequenceChunk(0, tokens, start, pages[: -(-stop // executor.page_size)], LogitRows.ALL)
        rows.append(executor.run(Step((chunk,))).logits.copy())
    executor.close()
    return np.concatenate(rows)


def _fill(model: Any) -> None:
    """Random weights, norms and biases included, large enough for logits that are not flat."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = parameter.dim() == 1 and ("norm" in name.lower() or ".ln" in name)
            scale = 0.3 if parameter.dim() == 1 else 0.1
            parameter.copy_(1 + 0.3 * noise if is_norm and name.endswith("weight") else noise * scale)


def _is_recurrent(class_name: str) -> bool:
    """Whether a model's own code keeps a state from token to token that is no KV cache."""
    import inspect

    import transformers

    source = inspect.getsource(inspect.getmodule(getattr(transformers, class_name)))
    return any(word in source.lower() for word in RECURRENT)


def _difference(logits: Any, expected: Any) -> float:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return float(np.abs(wide - expected).max())
