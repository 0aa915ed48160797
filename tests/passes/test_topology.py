"""Which weight gets which format."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from ingot.ir.errors import CompileError
from ingot.passes import PipelineOptions, build_pipeline, parse_topology, print_topology, run_passes
from ingot.passes.assignment import WeightUse

from .plain_llama import PlainLlama

MODEL = PlainLlama(tied=False)


def use(name: str, kind: str = "linear") -> WeightUse:
    return WeightUse(name, kind, (name,))


def formats_of(text: str, **options: str) -> Mapping[str, str]:
    """The formats of a small model's weights after the passes, by the parameters' names without them."""
    topology = parse_topology(text, "here.yaml", **options)
    passes = build_pipeline(PipelineOptions(max_seq_len=64, assignment=topology))
    module = run_passes(MODEL.module(), passes).module
    found = {}
    for value in module.forward.parameters:
        name, _, suffix = value.name.rpartition(".")
        if suffix in ("int4_g32_i5", "int8_g32", "int8_row"):
            found[name] = suffix
    return found


def test_the_first_rule_that_fits_decides_and_formats_do_not_mix() -> None:
    found = formats_of("""
default: int4
weights:
  - match: "*.v_proj.weight"
    format: int8_g32
  - layers: 1
    format: int8
  - {layers: 0-0, match: "*.up_proj.weight", format: none}
""")
    assert found["model.layers.0.self_attn.q_proj+k_proj.weight"] == "int4_g32_i5"
    assert found["model.layers.0.self_attn.v_proj.weight"] == "int8_g32"
    assert found["model.layers.1.self_attn.q_proj+k_proj+v_proj.weight"] == "int8_g32"
    assert found["model.layers.0.mlp.gate_proj.weight"] == "int4_g32_i5"
    assert "model.layers.0.mlp.up_proj.weight" not in found
    assert found["model.layers.1.mlp.gate_proj+up_proj.weight"] == "int8_g32"
    assert found["lm_head.weight"] == found["model.embed_tokens.weight"] == "int8_row"


def test_what_the_file_does_not_say_the_option_says() -> None:
    topology = parse_topology("weights: [{layers: [0, 2-3], format: none}]", "t", default="int4")
    assert [topology.format_for(use(f"h.{layer}.w")) for layer in range(5)] == [
        *(None, "int4_g32_i5", None, None, "int4_g32_i5")
    ]
    assert topology.format_for(use("lm_head.weight", "head")) == "int8_row"


def test_a_topology_that_is_printed_reads_back() -> None:
    formats = {"a.0.w": "int4_g32", "a[1].w": "int8_g32", "b*.w": None, "c.w": "int4_g32"}
    topology = parse_topology(print_topology(formats), "printed")
    assert {name: topology.format_for(use(name)) for name in formats} == formats


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default: int9", "t.yaml, line 1: no quantization scheme or format 'int9'"),
        ("weights:\n  - match: a\n    format: nf9", "line 3: no quantization scheme or format 'nf9'"),
        ("weights:\n- {layers: 3-1, format: int8}", "line 2: '3-1' is no range of layers"),
        ("weights:\n- {layers: x, format: int8}", "line 2: 'x' is no range"),
        ("weights:\n- format: int8", "line 2: an entry has a 'format', and 'layers' or 'match'"),
        ("weights:\n- {layer: 1, format: int8}", "line 2: nothing is called 'layer' here"),
        ("default: int8\ndefault: int4", "line 2: 'default' was said before"),
        ("weights: {}", "'weights' must be a list"),
        ("- a", "a mapping of default and weights is needed"),
        ("", "a mapping of default and weights"),
        ("a: [", "t.yaml is not YAML"),
        ("default: []", "line 1: a word is needed"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(CompileError, match=message.replace("(", r"\(")):
        parse_topology(text, "t.yaml")


def test_a_rule_about_nothing_is_refused() -> None:
    with pytest.raises(
        CompileError, match="line 3: no weight that can be quantized is of layers 7-7 and '\\*'"
    ):
        formats_of("default: int8\nweights:\n- {layers: 7, match: '*', format: int4}")


def test_a_rule_about_one_of_several_experts_is_refused() -> None:
    stacked = WeightUse("m.0.experts.0.w.stack", "linear", ("m.0.experts.0.w", "m.0.experts.1.w"))
    topology = parse_topology("weights: [{match: '*.experts.1.w', format: int8}]", "t")
    with pytest.raises(
        CompileError, match=r"about m\.0\.experts\.1\.w, but 2 tensors like it are one weight"
    ):
        topology.format_for(stacked)
    whole = parse_topology("weights: [{match: '*.experts.*.w', format: int8}]", "t")
    assert whole.format_for(stacked) == "int8_g32"
