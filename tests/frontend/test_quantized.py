"""Checkpoints that come quantized: every library's layout, values bit for bit, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ingot.frontend import Model, load_model
from ingot.frontend.weights import QuantizedWeights, open_quantized, open_weights
from ingot.ir import QuantizedArray, ScalarType, dequantize, evaluate
from ingot.ir.errors import ModelError

from ..quantized_checkpoints import LAYOUTS, quantize_experts, quantize_folder, write_matrix
from ..tiny_models import WHOLE_GROUPS, make_tiny, reference_log_probs
from .tiny_folder import safetensors_bytes

TOKEN_IDS = np.random.default_rng(5).integers(0, 300, 13).tolist()


def open_matrix(folder: Path, config: dict[str, Any]) -> QuantizedWeights:
    opened = open_quantized({"quantization_config": config}, open_weights(folder))
    assert isinstance(opened, QuantizedWeights)
    return opened


def values_of(weights: QuantizedWeights, name: str) -> npt.NDArray[np.float32]:
    """The matrix as the model has it: columns in the order of the inputs."""
    array = weights.read(name)
    assert isinstance(array, QuantizedArray)
    assert (array.shape, array.format) == (weights.types[name].shape, weights.types[name].element)
    values = dequantize(array)
    if name not in weights.orders:
        return values
    order = np.asarray(weights.read(weights.orders[name]))
    straight = np.empty_like(values)
    straight[:, order] = values
    return straight


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("shape", [(64, 96), (32, 192)], ids=str)
def test_values_are_those_of_the_librarys_formula(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    weight = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    stored = write_matrix(tmp_path, LAYOUTS[name], weight)
    weights = open_matrix(tmp_path, dict(LAYOUTS[name].config))
    found = values_of(weights, "layer.weight")
    np.testing.assert_array_equal(found, stored.values)
    assert np.abs(found - weight).mean() < 0.5  # and they are of this matrix
    assert [each for each in weights.names if not each.endswith(".order")] == ["layer.weight"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return make_tiny("llama", tmp_path_factory.mktemp("tiny"), num_hidden_layers=2, **WHOLE_GROUPS)


def log_probs(model: Model) -> npt.NDArray[np.float32]:
    inputs = {
        "token_ids": np.array(TOKEN_IDS, np.int32),
        "positions": np.arange(len(TOKEN_IDS), dtype=np.int32),
    }
    (logits,) = evaluate(model.module.forward, inputs, parameter=model.weights.read)
    wide = np.asarray(logits, np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return (wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))).astype(np.float32)


ONE_OF_EACH = (
    *("gptq 4 bits, act-order", "awq gemm", "fp8 blocks", "bnb nf4", "bnb int8", "hqq 3 bits"),
    "ct packed, zero points",
)
"""A layout of each library; models of the others are for the slow run."""


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=() if each in ONE_OF_EACH else pytest.mark.slow) for each in LAYOUTS]
)
def test_a_model_computes_with_the_stored_values(llama: Path, tmp_path: Path, name: str) -> None:
    quantized, plain = quantize_folder(llama, tmp_path, name)
    model = load_model(quantized)
    found, expected = log_probs(model), log_probs(load_model(plain))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    elements = [value.type.element for value in model.module.forward.parameters if "_proj" in value.name]
    assert not any(isinstance(element, ScalarType) and element.is_float for element in elements)


def test_settings_may_be_in_a_file_of_their_own(llama: Path, tmp_path: Path) -> None:
    quantized, _ = quantize_folder(llama, tmp_path, "gptq 4 bits, act-order")
    model, path = load_model(quantized), quantized / "config.json"
    config = json.loads(path.read_text())
    settings = config.pop("quantization_config")
    del settings["quant_method"]
    path.write_text(json.dumps(config))
    (quantized / "quantize_config.json").write_text(json.dumps(settings))
    again = load_model(quantized)
    assert again.weights.types == model.weights.types
    assert [file.name for file in again.provenance()] == [
        "config.json",
        "generation_config.json",
        "quantize_config.json",
        "model.safetensors",
    ]


def test_a_model_in_act_order_gives_what_transformers_does(llama: Path, tmp_path: Path) -> None:
    quantized, plain = quantize_folder(llama, tmp_path, "gptq 4 bits, act-order")
    expected = reference_log_probs(plain, TOKEN_IDS)
    assert expected.std() > 0.5
    np.testing.assert_allclose(log_probs(load_model(quantized)), expected, rtol=0, atol=1e-4)


def test_experts_of_gpt_oss_in_mxfp4(tmp_path: Path) -> None:
    """``transformers`` reads the same files; told to dequantize, it needs no kernels of its own."""
    pytest.importorskip("transformers")
    folder = make_tiny(
        "gpt_oss", tmp_path, hidden_size=96, intermediate_size=64, num_hidden_layers=2, swiglu_limit=7.0
    )
    quantize_experts(folder)
    model = load_model(folder)
    (blocks,) = (
        v for v in model.module.forward.parameters if v.name.endswith("0.mlp.experts.down_proj_blocks")
    )
    assert str(blocks.type) == "mxfp4[5, 96, 64]"
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"]["dequantize"] = True
    path.write_text(json.dumps(config))
    expected = reference_log_probs(folder, TOKEN_IDS)
    assert expected.std() > 0.5
    np.testing.assert_allclose(log_probs(model), expected, rtol=0, atol=1e-4)


def tensors_of(layout: str) -> dict[str, Any]:
    weight = np.random.default_rng(3).standard_normal((32, 96)).astype(np.float32)
    return {f"layer.{part}": array for part, array in LAYOUTS[layout].store(weight).tensors.items()}


def without(part: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.pop(f"layer.{part}")


def instead(part: str, array: Any) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({f"layer.{part}": np.asarray(array)})


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        (
            "gptq 4 bits",
            without("scales"),
            "lacks the tensor 'layer.scales', which a matrix quantized by gptq",
        ),
        ("gptq 4 bits", without("qzeros"), "lacks the tensor 'layer.qzeros'"),
        (
            "gptq 4 bits",
            instead("qzeros", np.zeros((3, 5), np.int32)),
            r"I32\[3, 5\] where gptq has I32\[3, 4\]",
        ),
        ("gptq 4 bits", instead("scales", np.zeros((3, 32))), "F64.* where gptq has F16 or BF16 or F32"),
        (
            "gptq 4 bits",
            instead("g_idx", np.arange(96, dtype=np.int32) // 40),
            "the 96 inputs into groups of 32",
        ),
        (
            "gptq 4 bits",
            instead("weight", np.zeros((32, 96), np.float32)),
            "'layer.weight' in .* is there twice",
        ),
        ("awq gemm", without("qzeros"), "lacks the tensor 'layer.qzeros', which a matrix quantized by awq"),
        ("fp8 blocks", without("weight_scale_inv"), "lacks the tensor 'layer.weight_scale_inv'"),
        ("fp8 blocks", instead("weight_scale_inv", np.ones((5, 1), np.float32)), "does not divide .32, 96."),
        ("bnb nf4", without("weight.quant_map"), "lacks the tensor 'layer.weight.quant_map'"),
        (
            "bnb nf4",
            instead("weight.quant_map", np.zeros(16, np.float32)),
            "another table of values than that of nf4",
        ),
        ("bnb nf4", instead("weight", np.zeros((7, 1), np.uint8)), "which are not 32 x 96 codes of 4 bits"),
        (
            "bnb nf4",
            instead("weight.quant_state.bitsandbytes__nf4", np.frombuffer(b"[1", np.uint8)),
            "is not the JSON object that describes a matrix",
        ),
        (
            "bnb nf4 nested",
            without("weight.nested_quant_map"),
            "lacks the tensor 'layer.weight.nested_quant_map'",
        ),
        ("bnb int8", instead("weight_format", np.array(2, np.uint8)), "only matrices that lie row by row"),
        ("hqq 4 bits", instead("axis", np.array(0, np.int32)), "only groups along the inputs, axis 1"),
        ("hqq 4 bits", instead("nbits", np.array(1, np.int32)), "'4bit_u8' for 1 bits"),
        ("hqq 4 bits", instead("shape", np.array([31, 95])), "31 x 95, which are no whole groups of 32"),
        ("hqq 4 bits", without("zero"), "lacks the tensor 'layer.zero'"),
        ("ct packed", without("weight_shape"), "lacks the tensor 'layer.weight_shape'"),
        (
            "ct packed, zero points",
            without("weight_zero_point"),
            "lacks the tensor 'layer.weight_zero_point'",
        ),
        (
            "ct int8",
            instead("weight_scale", np.ones((32, 2), np.float32)),
            r"where compressed-tensors has .*\[32, 1\]",
        ),
        ("ct nvfp4", without("weight_global_scale"), "lacks the tensor 'layer.weight_global_scale'"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, layout: str, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    tensors = tensors_of(layout)
    change(tensors)
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    with pytest.raises(ModelError, match=message):
        open_matrix(tmp_path, dict(LAYOUTS[layout].config)).read("layer.weight")


@pytest.mark.parametrize(
    ("layout", "config", "message"),
    [
        (
            "gptq 4 bits",
            {"quant_method": "aqlm"},
            "quantized by aqlm are not supported; supported are auto-round",
        ),
        ("gptq 4 bits", {"quant_method": None}, "quantized by an unnamed method are not supported"),
        ("gptq 4 bits", {"bits": 5}, "5 bits are not supported; 2, 3, 4, 8 are"),
        ("gptq 4 bits", {"checkpoint_format": "marlin"}, "checkpoint_format 'marlin' is not supported"),
        ("gptq 4 bits", {"group_size": 0}, "'group_size' must be a whole number of at least 1"),
        ("gptq 4 bits", {"pack_dtype": "int16"}, "pack_dtype 'int16' is not supported"),
        ("awq gemm", {"bits": 8}, "8 bits are not supported; 4 are"),
        ("awq gemm", {"version": "marlin"}, "version 'marlin' is not supported; gemm and gemv are"),
        ("awq gemm", {"group_size": 128}, "has 96 inputs, which are no whole groups of 128"),
        ("fp8 blocks", {"weight_block_size": [128]}, "'weight_block_size' must be two positive numbers"),
        ("fp8 blocks", {"expert_dtype": "fp4"}, "expert_dtype 'fp4' is not supported"),
        (
            "ct packed",
            {"format": "marlin-24"},
            "format 'marlin-24' is not supported; supported are pack-quantized",
        ),
        ("gptq 4 bits", {"dynamic": {"+:lay(": {}}}, r"'lay\(' is no regular expression: missing \)"),
        ("gptq 4 bits", {"dynamic": {".*": 4}}, r"'\.\*' must be an object, not 4"),
        ("ct packed", {"config_groups": {}}, "have none for the quantized module 'layer'"),
        (
            "ct packed",
            {"sparsity_config": {"format": "sparse-24-bitmask"}},
            "'sparse-24-bitmask' is not supported",
        ),
        (
            "ct packed",
            {"transform_config": {"config_groups": {"u": {}}}},
            "rotated weights are not supported",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    tmp_path: Path, layout: str, config: dict[str, Any], message: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(tensors_of(layout)))
    with pytest.raises(ModelError, match=message):
        open_matrix(tmp_path, {**LAYOUTS[layout].config, **config})


def test_gptqs_dynamic_settings_are_those_of_the_first_pattern_that_fits(tmp_path: Path) -> None:
    weight = np.random.default_rng(3).standard_normal((32, 96)).astype(np.float32)
    four, eight = (LAYOUTS[name].store(weight) for name in ("gptq 4 bits", "gptq 8 bits"))
    tensors = {f"layers.0.up_proj.{part}": array for part, array in four.tensors.items()}
    tensors |= {f"layers.1.up_proj.{part}": array for part, array in eight.tensors.items()}
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    dynamic = {"-:.*down": {}, r"+:.*\.1\..*up": {"bits": 8, "sym": False}, ".*1.*": {"bits": 2}}
    weights = open_matrix(tmp_path, {**LAYOUTS["gptq 4 bits"].config, "dynamic": dynamic})
    assert [str(type_) for type_ in weights.types.values()] == ["int4_g32[32, 96]", "int8_g32_z[32, 96]"]
    np.testing.assert_array_equal(values_of(weights, "layers.1.up_proj.weight"), eight.values)


def test_auto_round_saves_as_gptq_and_awq_do(tmp_path: Path) -> None:
    weight = np.random.default_rng(3).standard_normal((32, 96)).astype(np.float32)
    four, eight = (LAYOUTS[name].store(weight) for name in ("gptq 4 bits, zero points", "gptq 8 bits"))
    tensors = {f"layers.0.up_proj.{part}": array for part, array in four.tensors.items()}
    tensors |= {f"layers.1.up_proj.{part}": array for part, array in eight.tensors.items()}
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    config = {"quant_method": "auto-round", "bits": 4, "group_size": 32, "sym": False, "data_type": "int"}
    extra = {"layers.1.up_proj": {"bits": 8}, "layers.0.norm": {"bits": 16, "data_type": "float"}}
    weights = open_matrix(tmp_path, {**config, "extra_config": extra})
    np.testing.assert_array_equal(values_of(weights, "layers.0.up_proj.weight"), four.values)
    np.testing.assert_array_equal(values_of(weights, "layers.1.up_proj.weight"), eight.values)
    stored = write_matrix(tmp_path / "awq", LAYOUTS["awq gemm"], weight)
    weights = open_matrix(tmp_path / "awq", {**config, "packing_format": "auto_round:auto_awq"})
    np.testing.assert_array_equal(values_of(weights, "layer.weight"), stored.values)
    for wrong in ({"packing_format": "auto_round:exllamav2"}, {"data_type": "mx_fp"}):
        with pytest.raises(ModelError, match=f"'{next(iter(wrong.values()))}' is not supported"):
            open_matrix(tmp_path, {**config, **wrong})


def test_config_groups_are_chosen_by_name_then_pattern_then_class(tmp_path: Path) -> None:
    weight = np.random.default_rng(3).standard_normal((32, 96)).astype(np.float32)
    names = {"a.q_proj": "ct packed", "a.k_proj": "ct packed, 5 bits", "a.up_proj": "ct fp8"}
    names["a.embed_tokens"] = "ct int8"
    tensors = {
        f"{module}.{part}": array
        for module, name in names.items()
        for part, array in LAYOUTS[name].store(weight).tensors.items()
    }
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    groups = {}
    for target, name in (
        ("Embedding", "ct int8"),
        ("Linear", "ct fp8"),
        ("re:.*[qk]_proj", "ct packed"),
        ("a.k_proj", "ct packed, 5 bits"),
    ):
        config = LAYOUTS[name].config
        groups[name] = {**config["config_groups"]["group_0"], "targets": [target], "format": config["format"]}
    config = {"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": groups}
    weights = open_matrix(tmp_path, config)
    assert {name: str(type_) for name, type_ in weights.types.items()} == {
        "a.q_proj.weight": "int4_g32_bf16[32, 96]",
        "a.k_proj.weight": "int5_row_bf16[32, 96]",
        "a.up_proj.weight": "fp8_e4m3_row[32, 96]",
        "a.embed_tokens.weight": "int8_row_bf16[32, 96]",
    }


def test_the_columns_of_experts_cannot_be_in_orders_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    sizes = {"hidden_size": 96, "moe_intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 16}
    folder = make_tiny("qwen3_moe", tmp_path, num_key_value_heads=6, **sizes)
    quantized, _ = quantize_folder(folder, tmp_path, "gptq 4 bits, act-order")
    with pytest.raises(ModelError, match="in an order of their own"):
        load_model(quantized)
