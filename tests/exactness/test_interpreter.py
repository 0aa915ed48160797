"""Artifacts against the interpreter, which says what their own text, ``ir/paged.ir``, means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.frontend import WeightSource, load_model
from ingot.ir import (
    Module,
    QuantizedArray,
    dequantize,
    evaluate,
)

from ..compiled import WHOLE_GROUPS, WHOLE_GROUPS_OF_DELTA_RULES, WHOLE_GROUPS_OF_LATENTS, compile_tiny
from ..tiny_models import make_tiny
from .interpreting import interpret, paged_module
from .stepping import Logits, executing, in_steps
from .unpacking import unpack_parameters

SEQUENCES = [np.random.default_rng(seed).integers(0, 300, n).tolist() for seed, n in enumerate((70, 9))]
STEPS = [{0: 20, 1: 8}, {0: 1, 1: 1}, {0: 49}]


def interpreted(artifact: Path) -> list[Logits]:
    """Logits of :data:`SEQUENCES` by the module and the weights that lie in the artifact."""
    module = paged_module(artifact)
    parameters = unpack_parameters(artifact, module.forward.parameters)
    return interpret(module, parameters, SEQUENCES, STEPS)


def model_of(architecture: str) -> dict[str, Any]:
    sizes = {
        "granitemoehybrid": {"shared_intermediate_size": 160},
        # Without experts: where rounding lets a token choose another, its logits are others altogether.
        "deepseek_v3": {**WHOLE_GROUPS_OF_LATENTS, "first_k_dense_replace": 4},
        "mistral": {"sliding_window": 19},
        "qwen2_moe": {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 192},
        # Without experts, for the same reason.
        "qwen3_next": {**WHOLE_GROUPS_OF_DELTA_RULES, "num_experts": 0},
        "qwen3_moe": {"moe_intermediate_size": 64, "mlp_only_layers": [1]},
    }
    return {**WHOLE_GROUPS, **sizes.get(architecture, {})}


FLOATS = [
    # architecture, options, and how large median and largest difference may be: keys and values round to
    # float16, and what differs in its last bit may round apart.
    ("llama", {"dtype": "float32"}, 5e-6, 5e-5),
    ("qwen2", {"dtype": "float16"}, 2e-4, 1e-2),
    ("mistral", {"dtype": "bfloat16"}, 2e-4, 1e-2),
    ("mixtral", {"dtype": "bfloat16"}, 2e-4, 1e-2),
    # ... or to codes.
    ("llama", {"dtype": "float32", "kv_cache": "int8"}, 2e-5, 2e-2),
    ("gemma2", {"dtype": "float32", "kv_cache": "int4"}, 1e-4, 2e-1),
    ("deepseek_v3", {"dtype": "float32", "kv_cache": "int8"}, 1e-4, 5e-2),
]
# So may activations, to 8 bits.
CODES = [
    # Latents round more often on their way: queries and sums of heads do, too.
    (architecture, {"quant": quant}, 2e-2, 4e-1 if architecture == "deepseek_v3" else 2e-1)
    for architecture in (
        "deepseek_v3",
        "llama",
        "mistral",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
    )
    for quant in ("int8", "int4")
]
CODES += [
    (architecture, {"quant": quant}, 2e-2, 2e-1)
    for architecture, quant in (("gemma2", "int4"), ("glm4", "int8"), ("phi", "int8"), ("starcoder2", "int4"))
]
CODES += [
    (architecture, {"quant": quant}, 2e-2, 2e-1)
    for architecture, quant in (("lfm2", "int4"), ("granitemoehybrid", "int8"))
]
SLOW = [
    pytest.param("qwen3_next", {"quant": quant}, 2e-2, 2e-1, marks=pytest.mark.slow)
    for quant in ("int8", "int4")
]


@pytest.mark.parametrize(
    ("architecture", "options", "median", "largest"),
    FLOATS + CODES + SLOW,
    ids=lambda value: ",".join(value.values()) if isinstance(value, dict) else str(value),
)
def test_logits_are_what_the_interpreter_says(
    parent: Path,
    record: Callable[[str, float], None],
    architecture: str,
    options: dict[str, Any],
    median: float,
    largest: float,
) -> None:
    artifact = compile_tiny(architecture, parent, **options, **model_of(architecture))
    expected = np.concatenate(interpreted(artifact))
    with executing(artifact) as executor:
        found = np.concatenate(in_steps(executor, SEQUENCES, STEPS))
    differences = np.abs(found - expected)
    label = f"{architecture} {','.join(options.values())} (interpreter"
    record(f"{label}, median)", float(np.median(differences)))
    record(f"{label}, largest)", float(differences.max()))
    assert np.median(differences) <= median
    assert differences.max() <= largest


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float32"},
        {"dtype": "bfloat16", "tie_word_embeddings": True},
        {"dtype": "auto", "stored": "float16"},
        {"quant": "int8", "attention_bias": True},
        {"quant": "int4", "dtype": "bfloat16", "stored": "bfloat16"},
    ],
    ids=lambda options: ",".join(map(str, options.values())),
)
def test_weights_are_what_the_module_computes_from_the_checkpoint(
    parent: Path, options: dict[str, Any]
) -> None:
    artifact = compile_tiny("llama", parent, **options, **WHOLE_GROUPS)
    model = {key: value for key, value in options.items() if key not in ("dtype", "quant", "stored")}
    checkpoint = make_tiny("llama", parent, dtype=options.get("stored", "float32"), **model, **WHOLE_GROUPS)
    module, weights = paged_module(artifact), load_model(checkpoint).weights
    expected = evaluate(module.prepare, {name: weights.read(name) for name in weights.names})
    found = unpack_parameters(artifact, module.forward.parameters)
    kinds = set()
    for value, array in zip(module.forward.parameters, expected, strict=True):
        packed = found[value.name]
        kinds.add(str(value.type.element))
        if isinstance(array, QuantizedArray):
            assert isinstance(packed, QuantizedArray)
            assert_as_good(packed, array, original(module, value.name, weights))
        else:
            np.testing.assert_array_equal(packed, array)
    assert len(kinds) >= (1 if options.get("dtype") == "float32" else 2)


def original(module: Module, name: str, weights: WeightSource) -> np.ndarray:
    """A quantized parameter before it was quantized."""
    names = [parameter.name for parameter in module.forward.parameters]
    producer = module.prepare.producers[module.prepare.outputs[names.index(name)]]
    graph = replace(module.prepare, outputs=producer.operands)
    (array,) = evaluate(graph, {name: weights.read(name) for name in weights.names})
    return np.asarray(array, np.float32)


def assert_as_good(found: QuantizedArray, expected: QuantizedArray, values: np.ndarray) -> None:
    """Sums that round differently may choose another scale, but only where two are equally good."""
    size = found.format.block_size
    same = found.scales == expected.scales
    assert same.mean() > 0.9
    groups = (*same.shape, size)
    np.testing.assert_array_equal(found.codes.reshape(groups)[same], expected.codes.reshape(groups)[same])
    errors = [
        np.square((dequantize(array) - values).astype(np.float64)).reshape(groups).sum(axis=-1)
        for array in (found, expected)
    ]
    np.testing.assert_allclose(*errors, rtol=1e-5)
