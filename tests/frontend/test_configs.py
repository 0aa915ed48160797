from __future__ import annotations

from typing import Any

import pytest
from ingot.frontend import DecoderConfig, supported_architectures
from ingot.frontend.configs import PlainRope
from ingot.frontend.registry import find_family
from ingot.ir.errors import ConfigError
from ingot.ir.types import ScalarType

FAMILIES = (
    *("Cohere", "Cohere2", "DeepseekV2", "DeepseekV3", "Dots1", "Ernie4_5", "Exaone4", "Gemma2", "Gemma3"),
    *("Gemma", "Glm4", "Glm4Moe", "Glm4MoeLite", "Glm", "GptOss", "Granite", "GraniteMoe"),
    *("GraniteMoeShared", "Llama", "Mistral", "Mixtral", "Olmo2", "Olmo3", "Olmoe", "Phi3", "Phi", "Phimoe"),
    *("Qwen2", "Qwen2Moe", "Qwen3", "Qwen3Moe", "SeedOss", "SmolLM3", "Starcoder2", "Youtu"),
)
RECURRENT = ("GraniteMoeHybrid", "Lfm2", "Qwen3Next", "Qwen3_5", "Qwen3_5Moe")
"""Families with layers that are no attention, each with tests of its own."""
NORM_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "norm_epsilon")
SMALL: dict[str, Any] = {
    "vocab_size": 31,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
}

OF_FAMILY: dict[str, dict[str, Any]] = {
    "DeepseekV2": {"num_experts_per_tok": 3},
    "DeepseekV3": {"num_key_value_heads": 6},
    "Glm4MoeLite": {"num_key_value_heads": 6},
    "GraniteMoeShared": {"num_key_value_heads": 2, "shared_intermediate_size": 20},
    "Youtu": {"num_key_value_heads": 6},
}


def read(architecture: str, **fields: Any) -> DecoderConfig:
    own = OF_FAMILY.get(architecture, {"num_key_value_heads": 2})
    config = {**SMALL, "architectures": [f"{architecture}ForCausalLM"], **own, **fields}
    return find_family(config).from_hf(config)


def test_what_config_json_leaves_out() -> None:
    """Silence means what the family's class in transformers means by it."""
    assert read("Llama") == DecoderConfig(
        model_type="llama",
        vocab_size=31,
        hidden_size=48,
        intermediate_size=40,
        num_layers=3,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        max_position_embeddings=2048,
        norm_epsilon=1e-6,
        ropes=(PlainRope(10_000.0),) * 3,
        rotary_dim=8,
        windows=(0, 0, 0),
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        qk_norm=False,
        tie_word_embeddings=False,
        dtype=None,
        eos_token_ids=(),
    )
    assert read("Mistral").windows == (4096, 4096, 4096)
    assert read("Qwen2").qkv_bias
    assert not read("Qwen2").output_bias
    assert read("Qwen3").head_dim == 128
    assert read("Qwen3").qk_norm


@pytest.mark.parametrize("architecture", [family for family in FAMILIES if family != "Glm4Moe"])
def test_defaults_are_those_of_transformers(architecture: str) -> None:
    """But for GLM-4-MoE, by whose defaults heads do not share the hidden size."""
    transformers = pytest.importorskip("transformers")
    name = "Gemma3Text" if architecture == "Gemma3" else architecture
    theirs = getattr(transformers, f"{name}Config")()
    config = {
        "architectures": [f"{architecture}ForCausalLM"],
        **{name: getattr(theirs, name) for name in SMALL},
    }
    if architecture == "DeepseekV2":  # which has no default for it that works
        config["num_experts_per_tok"] = 6
    ours = find_family(config).from_hf(config)
    assert ours.num_kv_heads == theirs.num_key_value_heads
    shared = theirs.hidden_size // theirs.num_attention_heads
    assert ours.head_dim == (getattr(theirs, "head_dim", shared) or shared)
    assert ours.max_position_embeddings == theirs.max_position_embeddings
    assert ours.norm_epsilon == next(getattr(theirs, n) for n in NORM_EPSILONS if hasattr(theirs, n))
    assert ours.tie_word_embeddings == theirs.tie_word_embeddings
    assert ours.activation == ("gelu_tanh" if "gelu" in activation_of(theirs) else "silu")
    if architecture not in ("Gemma3", "GptOss", "Olmo3"):
        theta = theirs.rope_parameters["rope_theta"]
        have_ropes = getattr(theirs, "no_rope_layers", [True] * ours.num_layers)
        if architecture in ("Cohere2", "Exaone4"):
            have_ropes = [kind == "sliding_attention" for kind in theirs.layer_types]
        assert ours.ropes == tuple(PlainRope(theta) if has_rope else None for has_rope in have_ropes)
        factor = theirs.rope_parameters.get("partial_rotary_factor", 1.0)
        assert ours.rotary_dim == int(ours.head_dim * factor)
    types = getattr(theirs, "layer_types", None)
    if types is None or architecture.startswith("Qwen"):
        types = ["sliding_attention" if architecture == "Mistral" else "full_attention"] * ours.num_layers
    window = getattr(theirs, "sliding_window", None)
    assert ours.windows == tuple(window if kind == "sliding_attention" else 0 for kind in types)


def activation_of(config: Any) -> str:
    return str(getattr(config, "hidden_activation", None) or config.hidden_act)


def test_kv_heads() -> None:
    assert read("Llama", num_key_value_heads=None).num_kv_heads == 6
    with pytest.raises(ConfigError, match="num_key_value_heads 4 does not divide num_attention_heads 6"):
        read("Llama", num_key_value_heads=4)


def test_head_dim() -> None:
    assert read("Llama", head_dim=10).head_dim == 10
    assert read("Llama", head_dim=None).head_dim == 8
    with pytest.raises(ConfigError, match="head_dim must be even for rotary embeddings, not 7"):
        read("Llama", head_dim=7)
    with pytest.raises(ConfigError, match="6 does not divide hidden_size 50, and there is no head_dim"):
        read("Llama", hidden_size=50)
    with pytest.raises(ConfigError, match="rope type 'dynamic' needs a head_dim of at least 4"):
        read("Llama", head_dim=2, rope_scaling={"type": "dynamic", "factor": 2.0})


@pytest.mark.parametrize(
    ("fields", "windows"),
    [
        ({"sliding_window": 5}, (0, 0, 0)),
        ({"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}, (0, 5, 5)),
        ({"use_sliding_window": True, "sliding_window": 5}, (0, 0, 0)),
        ({"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, (0, 0, 0)),
        (
            {
                "use_sliding_window": True,
                "sliding_window": 5,
                "max_window_layers": 3,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
            (5, 0, 5),
        ),
    ],
)
@pytest.mark.parametrize("architecture", ["Qwen2", "Qwen3"])
def test_windows_by_layer(architecture: str, fields: dict[str, Any], windows: tuple[int, ...]) -> None:
    assert read(architecture, **fields).windows == windows


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        (
            "Qwen2",
            {"layer_types": ["full_attention"]},
            "'layer_types' names 1 layers where num_hidden_layers is 3",
        ),
        (
            "Qwen3",
            {"layer_types": ["linear_attention"] * 3},
            "layer type 'linear_attention' is not supported",
        ),
        ("Qwen3", {"layer_types": ["sliding_attention"] * 3}, "no sliding_window is in use"),
        (
            "Mistral",
            {"sliding_window": 5, "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
            "'layer_types' must all be sliding_attention, as sliding_window 5 says",
        ),
    ],
)
def test_windows_refused(architecture: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(architecture, **fields)


def test_mistral_with_layer_types_that_say_the_same() -> None:
    assert read("Mistral", sliding_window=5, layer_types=["sliding_attention"] * 3).windows == (5, 5, 5)
    assert read("Mistral", sliding_window=None, layer_types=["full_attention"] * 3).windows == (0, 0, 0)


@pytest.mark.parametrize(
    ("value", "ids"),
    [(None, ()), (7, (7,)), (0, (0,)), ([7, 9], (7, 9))],
    ids=["none", "one", "zero", "list"],
)
def test_eos_token_ids(value: object, ids: tuple[int, ...]) -> None:
    assert read("Llama", eos_token_id=value).eos_token_ids == ids


@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
def test_dtype(field: str) -> None:
    assert read("Llama", **{field: "bfloat16"}).dtype is ScalarType.BFLOAT16
    assert read("Llama", **{field: "torch.float16"}).dtype is ScalarType.FLOAT16
    assert read("Llama", **{field: "float8_e4m3fn"}).dtype is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": None}, "config.json: field 'hidden_size' is missing"),
        ({"hidden_size": "48"}, "'hidden_size' must be a whole number of at least 1, not '48'"),
        ({"hidden_size": True}, "'hidden_size' must be a whole number of at least 1, not True"),
        ({"num_hidden_layers": 0}, "'num_hidden_layers' must be a whole number of at least 1, not 0"),
        ({"rms_norm_eps": "small"}, "'rms_norm_eps' must be a positive number, not 'small'"),
        ({"tie_word_embeddings": 1}, "'tie_word_embeddings' must be true or false, not 1"),
        ({"eos_token_id": "</s>"}, "'eos_token_id' must be a token id or a list of them, not '</s>'"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported; supported are silu, swish, gelu"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is not supported: heads are rotated whole"),
        ({"hidden_act": 3}, "'hidden_act' must be a string, not 3"),
        ({"is_causal": False}, "attention that is not causal is not supported"),
        (
            {"architectures": ["GPT2LMHeadModel"]},
            "architecture 'GPT2LMHeadModel' is not supported; supported are Co",
        ),
        ({"architectures": "LlamaForCausalLM"}, "'architectures' must be a list of strings"),
        (
            {"architectures": None, "model_type": "mamba"},
            "model type 'mamba' is not supported; supported are Co",
        ),
        ({"architectures": []}, "neither 'architectures' nor 'model_type' says what model this is"),
    ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read("Llama", **fields)


@pytest.mark.parametrize("architectures", [None, []])
def test_model_type_where_no_architecture_is_named(architectures: object) -> None:
    assert read("Llama", architectures=architectures, model_type="qwen3").model_type == "qwen3"


def test_every_architecture_has_its_family() -> None:
    decoders = tuple(name for name in supported_architectures() if name.endswith("ForCausalLM"))
    assert decoders == tuple(sorted(f"{family}ForCausalLM" for family in FAMILIES + RECURRENT))
    for family in FAMILIES:
        assert family.lower().replace("_", "") == read(family).model_type.removesuffix("_text").replace(
            "_", ""
        )


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        (
            "Gemma2",
            {"sliding_window": None},
            "there are sliding_attention layers, but no sliding_window is in use",
        ),
        ("Gemma3", {"is_causal": False}, "attention that is not causal is not supported"),
        ("Glm4", {"partial_rotary_factor": 0.4}, "partial_rotary_factor 0.4 of head_dim 128 must be an even"),
        (
            "Phi3",
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0]}},
            "field 'long_factor' is missing",
        ),
        (
            "Phi3",
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2]}},
            "'short_factor' must have 4 numbers, one for each pair, not 1",
        ),
        (
            "Phi3",
            {"rope_scaling": {"type": "longrope", "short_factor": 1.0}},
            "'short_factor' must be a list",
        ),
        ("DeepseekV2", {"num_experts_per_tok": None}, "field .num_experts_per_tok. is missing"),
        (
            "DeepseekV2",
            {"topk_method": "noaux_tc"},
            "topk_method .noaux_tc. is not supported; supported are g",
        ),
        ("DeepseekV2", {"norm_topk_prob": True}, "norm_topk_prob is not supported"),
        ("DeepseekV2", {"mlp_bias": True}, "mlp_bias is not supported where there are experts"),
        ("DeepseekV2", {"num_key_value_heads": 2}, "num_key_value_heads 2 must be num_attention_heads 6"),
        ("DeepseekV3", {"moe_layer_freq": 2}, "moe_layer_freq 2 is not supported"),
        ("DeepseekV3", {"scoring_func": "softmax"}, "scoring_func .softmax. is not supported"),
        ("DeepseekV3", {"qk_rope_head_dim": 7}, "qk_rope_head_dim must be even"),
        ("Mixtral", {"num_local_experts": 1}, "num_experts_per_tok 2 is more than 1 experts"),
        ("Glm4Moe", {"n_group": 3}, "1 of 3 groups cannot be kept of 128 experts"),
        ("Olmoe", {"clip_qkv": 8.0}, "clip_qkv is not supported"),
        ("Phimoe", {"num_experts_per_tok": 3}, "num_experts_per_tok must be 2 for a sparse mixer, not 3"),
        ("Qwen3Moe", {"mlp_only_layers": 1}, "'mlp_only_layers' must be a list of whole numbers"),
        ("SmolLM3", {"no_rope_layers": [1, 0]}, "'no_rope_layers' must be a list of 3 numbers 0 or 1"),
    ],
)
def test_refused_of_a_family(architecture: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(architecture, **fields)


def test_gemma_says_gelu_and_means_its_approximation() -> None:
    assert read("Gemma", hidden_act="gelu").activation == "gelu_tanh"


def test_ropes_of_gemma3_in_both_spellings() -> None:
    old = read("Gemma3", rope_theta=5e5, rope_local_base_freq=2e4, sliding_window_pattern=2)
    nested = {"sliding_attention": {"rope_theta": 2e4}, "full_attention": {"rope_theta": 5e5}}
    new = read("Gemma3", rope_parameters=nested, sliding_window_pattern=2)
    assert old.ropes == new.ropes == (PlainRope(2e4), PlainRope(5e5), PlainRope(2e4))
