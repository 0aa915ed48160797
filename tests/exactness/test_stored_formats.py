"""Artifacts of checkpoints that come quantized, against the interpreter on what the checkpoints hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.codegen import compile_model
from ingot.frontend import WeightSource, load_model
from ingot.ir import Array, Module, evaluate

from ..quantized_checkpoints import LAYOUTS, quantize_experts, quantize_folder
from ..tiny_models import WHOLE_GROUPS, make_tiny
from .interpreting import interpret, paged_module
from .stepping import executing, in_steps

SEQUENCES = [np.random.default_rng(seed).integers(0, 300, n).tolist() for seed, n in enumerate((40, 9))]
STEPS = [{0: 20, 1: 8}, {0: 1, 1: 1}, {0: 19}]

BY_DEFAULT = ("gptq 4 bits, act-order",)
"""What the kernels' own tests do not see: columns in another order."""


def parameters_of(module: Module, weights: WeightSource) -> dict[str, Array]:
    """Parameters as the module computes them from the checkpoint, before they are packed."""
    tensors = {value.name: weights.read(value.name) for value in module.prepare.inputs}
    names = (value.name for value in module.forward.parameters)
    return dict(zip(names, evaluate(module.prepare, tensors), strict=True))


def check(folder: Path, output: Path, record: Callable[[str, float], None], label: str) -> None:
    compile_model(folder, output)
    module = paged_module(output)
    parameters = parameters_of(module, load_model(folder).weights)
    expected = np.concatenate(interpret(module, parameters, SEQUENCES, STEPS))
    with executing(output) as executor:
        found = np.concatenate(in_steps(executor, SEQUENCES, STEPS))
    differences = np.abs(found - expected)
    record(f"{label} (interpreter, median)", float(np.median(differences)))
    record(f"{label} (interpreter, largest)", float(differences.max()))
    # Keys and values round to float16, activations to 8 bits: what differs in its last bit may round apart.
    assert np.median(differences) <= 2e-2
    assert differences.max() <= 2e-1


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=() if each in BY_DEFAULT else pytest.mark.slow) for each in LAYOUTS]
)
def test_a_dense_model(parent: Path, tmp_path: Path, record: Callable[[str, float], None], name: str) -> None:
    source = make_tiny("llama", parent, num_hidden_layers=1, **WHOLE_GROUPS)
    quantized, _ = quantize_folder(source, tmp_path, name)
    check(quantized, tmp_path / "model.ingot", record, name)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["deepseek_v3", "phi3", "qwen3_moe"])
def test_other_families_in_float8(
    parent: Path, tmp_path: Path, record: Callable[[str, float], None], architecture: str
) -> None:
    quantized, _ = quantize_folder(
        make_tiny(architecture, parent, num_hidden_layers=2), tmp_path, "fp8 blocks"
    )
    check(quantized, tmp_path / "model.ingot", record, f"{architecture}, fp8 blocks")


@pytest.mark.slow
def test_gpt_oss_in_mxfp4(tmp_path: Path, record: Callable[[str, float], None]) -> None:
    folder = make_tiny(
        "gpt_oss", tmp_path, hidden_size=96, intermediate_size=64, num_hidden_layers=2, swiglu_limit=7.0
    )
    quantize_experts(folder)
    check(folder, tmp_path / "model.ingot", record, "gpt_oss, mxfp4")
