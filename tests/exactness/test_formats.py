"""Models in every kind of format: what is compiled computes what the interpreter says of the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..compiled import WHOLE_GROUPS, WHOLE_GROUPS_OF_LATENTS, compile_tiny
from .stepping import executing, in_steps
from .test_interpreter import SEQUENCES, STEPS, interpreted

SUPER_BLOCKS: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 768,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
MIXTURE: dict[str, Any] = {**WHOLE_GROUPS, "intermediate_size": 96}
CASES = [
    ("llama", "q4_k", SUPER_BLOCKS),
    ("mixtral", "int3", MIXTURE),
]
SLOW = [
    ("llama", "fp8_e4m3_row", {}),
    *(("llama", f"q{bits}_k", SUPER_BLOCKS) for bits in (2, 3, 5, 6)),
    *(("llama", name, SUPER_BLOCKS) for name in ("iq4_xs", "nvfp4", "int8_row", "int4_g64_z")),
    *(("llama", name, WHOLE_GROUPS) for name in ("q4_0", "q4_1", "q5_1", "q8_0", "iq4_nl", "mxfp4", "int6")),
    *(("mixtral", name, MIXTURE) for name in ("nf4_g32", "mxfp4", "int2_g32_fz")),
    ("deepseek_v3", "int4_g32_z", {**WHOLE_GROUPS, **WHOLE_GROUPS_OF_LATENTS, "first_k_dense_replace": 4}),
    ("deepseek_v3", "fp8_e5m2_row", {"first_k_dense_replace": 4}),
]


@pytest.mark.parametrize(
    ("architecture", "quant", "model"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_logits_are_what_the_interpreter_says(
    parent: Path, record: Callable[[str, float], None], architecture: str, quant: str, model: dict[str, Any]
) -> None:
    artifact = compile_tiny(architecture, parent, quant=quant, **model)
    expected = np.concatenate(interpreted(artifact))
    with executing(artifact) as executor:
        found = np.concatenate(in_steps(executor, SEQUENCES, STEPS))
    differences = np.abs(found - expected)
    record(f"{architecture} {quant} (interpreter, median)", float(np.median(differences)))
    record(f"{architecture} {quant} (interpreter, largest)", float(differences.max()))
    # What differs in its last bit may round to other codes; with few bits, minima cancel most of a product.
    assert np.median(differences) <= 5e-2
    assert differences.max() <= 6e-1
