"""Artifacts against the interpreter, which says what their own text, ``ir/paged.ir``, means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from .test_batch_invariance import ARTIFACTS
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
    return {"architecture": architecture, **WHOLE_GROUPS, **sizes.get(architecture, {})}


# Those of the other test are compiled for it already.
FLOATS = {"llama float32": {"dtype": "float32", **model_of("llama")}, "qwen2 bfloat16": ARTIFACTS["bfloat16"]}
# How large median and largest difference may be.
CACHES_OF_CODES = {
    "llama, int8 pages": ({"kv_cache": "int8", **model_of("llama")}, 2e-5, 2e-2),
    "gemma2, int4 pages": ({"kv_cache": "int4", **model_of("gemma2")}, 1e-4, 2e-1),
    "deepseek_v3, int8 pages": ({"kv_cache": "int8", **model_of("deepseek_v3")}, 1e-4, 5e-2),
}
CODES = {
    **{name: ARTIFACTS[name] for name in ("int8", "int8, float16 pages", "int4", "int4, experts")},
    "deepseek_v3 int8": {"quant": "int8", **model_of("deepseek_v3")},
    "gemma2 int4": {"quant": "int4", **model_of("gemma2")},
}
# The same parts, put together otherwise.
FURTHER_FLOATS = {
    "qwen2 float16": {"dtype": "float16", **model_of("qwen2")},
    "mistral bfloat16": {"dtype": "bfloat16", **model_of("mistral")},
    "mixtral bfloat16": {"dtype": "bfloat16", **model_of("mixtral")},
}
FURTHER_CODES = {
    **{name: ARTIFACTS[name] for name in ("int4, float16 pages", "int4, states")},
    **{
        f"{architecture} {quant}": {"quant": quant, **model_of(architecture)}
        for architecture, quant in (
            *(("deepseek_v3", "int4"), ("granitemoehybrid", "int8"), ("llama", "int4"), ("mistral", "int8")),
            *(("mistral", "int4"), ("qwen2", "int8"), ("qwen2", "int4"), ("qwen2_moe", "int8")),
            *(("qwen3", "int8"), ("qwen3_moe", "int8"), ("qwen3_moe", "int4")),
            *(("qwen3_next", "int8"), ("qwen3_next", "int4")),
            *(("glm4", "int8"), ("lfm2", "int4"), ("phi", "int8"), ("starcoder2", "int4")),
        )
    },
}


def allowed(options: dict[str, Any]) -> tuple[float, float]:
    """How large median and largest difference may be.

    Keys and values round to float16, and what differs in its last bit may round apart. So may activations, to
    8 bits, or to bfloat16; latents do so more often on their way: queries and sums of heads as well.
    """
    if "quant" in options:
        return 2e-2, 4e-1 if options["architecture"] == "deepseek_v3" else 2e-1
    bounds = {"float32": (5e-6, 5e-5), "float16": (2e-4, 1e-2), "bfloat16": (1e-2, 2e-1)}
    return bounds[options["dtype"]]


def _params() -> Iterator[object]:
    for label, options in {**FLOATS, **CODES}.items():
        yield pytest.param(label, options, *allowed(options), id=label)
    for label, (options, median, largest) in CACHES_OF_CODES.items():
        yield pytest.param(label, {"dtype": "float32", **options}, median, largest, id=label)
    for label, options in {**FURTHER_FLOATS, **FURTHER_CODES}.items():
        yield pytest.param(label, options, *allowed(options), id=label, marks=pytest.mark.slow)


@pytest.mark.parametrize(("label", "options", "median", "largest"), list(_params()))
def test_logits_are_what_the_interpreter_says(
    parent: Path,
    record: Callable[[str, float], None],
    label: str,
    options: dict[str, Any],
    median: float,
    largest: float,
) -> None:
    artifact = compile_tiny(parent=parent, **options)
    expected = np.concatenate(interpreted(artifact))
    with executing(artifact) as executor:
        found = np.concatenate(in_steps(executor, SEQUENCES, STEPS))
    differences = np.abs(found - expected)
    record(f"{label} (interpreter, median)", float(np.median(differences)))
    record(f"{label} (interpreter, largest)", float(differences.max()))
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
    size = found.format.group_size or values.shape[-1]
    same = found.scales == expected.scales
    if found.super_scales is not None:  # groups' scales depend on each other: whole rows are as good
        wrong, least = (np.square(dequantize(array) - values).sum() for array in (found, expected))
        assert wrong <= least * 1.001
        return
    assert same.mean() > 0.9
    groups = (*same.shape, size)
    np.testing.assert_array_equal(found.codes.reshape(groups)[same], expected.codes.reshape(groups)[same])
    errors = [
        np.square((dequantize(array) - values).astype(np.float64)).reshape(groups).sum(axis=-1)
        for array in (found, expected)
    ]
    np.testing.assert_allclose(*errors, rtol=1e-5)
