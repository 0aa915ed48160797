"""The whole way, from a plain module to one step over pages."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ingot.ir import (
    GraphBuilder,
    IRError,
    Module,
    QuantFormat,
    ScalarType,
    TensorType,
    VerificationError,
    bind_shape,
    evaluate,
    page_size_of,
    parse_module,
    print_module,
    verify,
)
from ingot.ir.errors import CompileError
from ingot.passes import (
    BatchSequences,
    CacheType,
    EliminateDeadCode,
    FuseGateUp,
    FuseNorms,
    FuseQKV,
    InterpreterChecker,
    PageKVCache,
    Pass,
    PipelineOptions,
    build_pipeline,
    find_assignment,
    run_passes,
)
from ingot.passes.base import Rewritten

from .plain_llama import PlainLlama

MODELS = {
    "llama": PlainLlama(),
    "biases_norms_window": PlainLlama(
        biases=True, qk_norm=True, tied=False, window=5, attention_factor=1.3, head_dim=16
    ),
    "dynamic_rope_equal_heads": PlainLlama(dynamic_rope=True, heads=2, weight_type=ScalarType.FLOAT32),
}
EXACT = PipelineOptions(max_seq_len=64, page_size=4, kv_cache=CacheType.FLOAT32)
PAGED_OPERATORS = {
    *("embedding", "rms_norm", "add_rms_norm", "linear", "slice", "reshape", "rope"),
    *("append_kv", "paged_attention", "silu_mul", "gather_rows"),
}


def checker(model: PlainLlama) -> InterpreterChecker:
    return InterpreterChecker(model.weights, vocab_size=model.vocab)


@pytest.mark.parametrize("scheme", ["none", "int8", "int4"])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_pattern_is_fused_and_logits_stay(model: PlainLlama, scheme: str) -> None:
    options = replace(EXACT, assignment=find_assignment(scheme))
    result = run_passes(model.module(), build_pipeline(options), check=checker(model))
    operators = {operation.operator for operation in result.module.forward.operations}
    assert operators == PAGED_OPERATORS | ({"quantize"} if scheme != "none" else set())
    for record in result.records:
        assert record.largest_difference is not None
        if record.name == "quantize_weights":
            assert 1e-3 < record.largest_difference < 2.0
        else:
            assert record.largest_difference < 1e-4, record


def test_records_are_truthful() -> None:
    result = run_passes(MODELS["llama"].module(), build_pipeline(EXACT))
    modified = {record.name: record.modified for record in result.records[:-4]}
    assert modified == {
        **dict.fromkeys(modified, True),
        "fix_length": False,
        "drop_neutral_terms": False,
        "fuse_activations": False,
        "merge_routes": False,
        "split_linears": False,
        "absorb_latents": False,
        "round_rows": False,
        "eliminate_dead_code": False,
        "cast_weights": False,
        "cast_rows": False,
    }
    assert not any(record.modified for record in result.records[-4:])
    assert all(record.largest_difference is None and record.seconds >= 0 for record in result.records)


def test_the_pipeline_is_idempotent() -> None:
    options = replace(EXACT, assignment=find_assignment("int4"))
    module = run_passes(MODELS["llama"].module(), build_pipeline(options)).module
    again = run_passes(module, [step for step in build_pipeline(options) if "paged" in step.requires])
    assert again.module is module
    assert not any(record.modified for record in again.records)


def test_what_comes_out_reads_back() -> None:
    module = run_passes(MODELS["biases_norms_window"].module(), build_pipeline(EXACT)).module
    text = print_module(module)
    assert print_module(parse_module(text)) == text


def test_a_tied_head_shares_the_quantized_embedding() -> None:
    options = replace(EXACT, assignment=find_assignment("int4"))
    module = run_passes(MODELS["llama"].module(), build_pipeline(options)).module
    quantized = {
        value.name: value.type.element.name
        for value in module.forward.parameters
        if isinstance(value.type.element, QuantFormat)
    }
    assert quantized.pop("model.embed_tokens.weight.int8_row") == "int8_row"
    assert set(quantized.values()) == {"int4_g32_i5"}
    embedding, head = module.forward.operations[0], module.forward.operations[-1]
    assert embedding.operands[0] is head.operands[1]


def test_logits_are_of_the_rows_asked_for() -> None:
    model = MODELS["llama"]
    module = run_passes(model.module(), build_pipeline(EXACT)).module
    weights = {value.name: model.weights(value.name) for value in module.prepare.inputs}
    names = [value.name for value in module.prepare.outputs]
    arrays = dict(zip(names, evaluate(module.prepare, weights), strict=True))
    arrays.update({state.name: np.zeros((4, 2, 4, 8), np.float32) for state in module.forward.states})
    batch = {
        "token_ids": [3, 1, 4, 1, 5],
        "positions": [0, 1, 2, 0, 1],
        "sequence_starts": [0, 3, 5],
        "context_lengths": [3, 2],
        "page_table": [[2], [0]],
        "slots": [8, 9, 10, 0, 1],
    }
    arrays.update({name: np.array(value, np.int32) for name, value in batch.items()})
    everything, last = (
        np.asarray(evaluate(module.forward, {**arrays, "logit_rows": np.array(rows, np.int32)})[0])
        for rows in ([0, 1, 2, 3, 4], [2, 4])
    )
    assert last.shape == (2, model.vocab)
    np.testing.assert_allclose(last, everything[[2, 4]], atol=1e-5)


def test_casting_narrows_weights_only() -> None:
    model = replace(MODELS["dynamic_rope_equal_heads"], biases=True)
    options = replace(EXACT, dtype=ScalarType.FLOAT16)
    result = run_passes(model.module(), build_pipeline(options), check=checker(model))
    for parameter in result.module.forward.parameters:
        is_weight = parameter.type.rank == 2 and not parameter.name.startswith("rope.")
        assert parameter.type.element is (ScalarType.FLOAT16 if is_weight else ScalarType.FLOAT32)
    (difference,) = (r.largest_difference for r in result.records if r.name == "cast_weights")
    assert difference is not None
    assert 0 < difference < 0.05


def test_sixteen_layers_take_under_two_seconds() -> None:
    module = PlainLlama(layers=16).module()
    passes = build_pipeline(PipelineOptions(max_seq_len=131_072, assignment=find_assignment("int4")))
    started = time.process_time()
    run_passes(module, passes)
    assert time.process_time() - started < 2


def test_dump_and_progress_see_each_pass() -> None:
    dumped: dict[str, str] = {}
    progressed: list[str] = []
    passes = build_pipeline(EXACT)
    run_passes(
        MODELS["llama"].module(),
        passes,
        dump=lambda label, module: dumped.update({label: module.stage}),
        progress=progressed.append,
    )
    assert progressed == [step.name for step in passes]
    assert list(dumped) == sorted(dumped)
    assert list(dumped)[:2] == ["00_input", "01_fix_length"]
    stages = {label.partition("_")[2]: stage for label, stage in dumped.items()}
    assert (stages["input"], stages["fuse_rope"], stages["page_kv_cache"]) == ("plain", "fused", "paged")


@dataclass(frozen=True)
class Meddle(Pass):
    """A faulty pass: it doubles the logits, or leaves a graph that is none."""

    breaks_rules: bool
    name: ClassVar[str] = "meddle"

    def rewrite(self, module: Module) -> Rewritten:
        forward = module.forward
        if self.breaks_rules:
            return Rewritten(module.with_forward(replace(forward, operations=forward.operations[1:])))
        builder = GraphBuilder()
        builder.declare(forward.inputs, forward.states, forward.parameters)
        for operation in forward.operations:
            builder.append(operation)
        doubled = builder.emit("add", forward.outputs[0], forward.outputs[0])
        return Rewritten(module.with_forward(builder.build(doubled)))


def test_a_pass_that_breaks_the_module_is_caught() -> None:
    with pytest.raises(VerificationError, match="defined before it is used"):
        run_passes(MODELS["llama"].module(), [Meddle(breaks_rules=True)])


def test_a_pass_that_changes_logits_is_caught() -> None:
    model = MODELS["llama"]
    with pytest.raises(CompileError, match="meddle changed the logits"):
        run_passes(model.module(), [Meddle(breaks_rules=False)], check=checker(model))


def test_a_pass_names_the_stage_it_needs() -> None:
    with pytest.raises(CompileError, match="fuse_qkv takes a module at stage fused or quantized, not plain"):
        FuseQKV().run(MODELS["llama"].module())


def test_paging_refuses_what_mixes_tokens() -> None:
    module = FuseNorms().run(MODELS["llama"].module()).module
    with pytest.raises(CompileError, match=r"causal_mask .* is part of no attention"):
        PageKVCache(16, CacheType.FLOAT32).run(module)


def test_paging_refuses_logits_of_no_linear() -> None:
    builder = GraphBuilder()
    ids = builder.input("token_ids", ["tokens"], ScalarType.INT32)
    module = Module(
        "none", "fused", GraphBuilder().build(), builder.build(builder.emit("cast", ids, to="float32"))
    )
    with pytest.raises(CompileError, match="no linear makes the logits"):
        PageKVCache(16, CacheType.FLOAT32).run(module)


def test_paging_refuses_logits_that_are_used_again() -> None:
    builder = GraphBuilder()
    ids = builder.input("token_ids", ["tokens"], ScalarType.INT32)
    table = builder.parameter("w", TensorType((8, 4), ScalarType.FLOAT32))
    raw = builder.emit("linear", builder.emit("embedding", table, ids), table, name="raw")
    forward = builder.build(builder.emit("neg", raw, name="logits"), raw)
    prepare = GraphBuilder()
    module = Module("m", "fused", prepare.build(prepare.input("w", (8, 4), ScalarType.FLOAT32)), forward)
    with pytest.raises(CompileError, match=r"%raw, on the way to the logits, has other uses"):
        PageKVCache(16, CacheType.FLOAT32).run(module)


def test_vectors_of_latent_attention_are_refused() -> None:
    builder = GraphBuilder()
    ids = builder.input("token_ids", ["tokens"], ScalarType.INT32)
    x = builder.emit("embedding", builder.parameter("w", TensorType((8, 12), ScalarType.FLOAT32)), ids)
    q = builder.emit("reshape", x, shape=("tokens", 2, 6))
    v = builder.emit("slice", q, axis=2, start=0, stop=4)
    attended = builder.emit("attention", q, q, v, scale=0.5, window=0, soft_cap=0.0)
    prepare = GraphBuilder()
    weight = prepare.input("w", (8, 12), ScalarType.FLOAT32)
    module = Module("m", "fused", prepare.build(weight), builder.build(attended))
    with pytest.raises(CompileError, match=r"values have 4 elements .* latent attention"):
        BatchSequences().run(module)


def test_what_no_rule_touches_stays_the_same_object() -> None:
    before = FuseNorms().run(MODELS["llama"].module()).module
    after = FuseGateUp().run(before).module
    untouched = [op for op in after.forward.operations if op in set(before.forward.operations)]
    changed = [op.operator for op in after.forward.operations if op not in set(before.forward.operations)]
    assert changed == ["linear", "silu_mul", "linear"] * 2  # and the products that take silu_mul's result
    assert len(untouched) > 50


def test_layers_that_share_projections_are_fused_once() -> None:
    builder = GraphBuilder()
    x = builder.input("x", ["tokens", 8], ScalarType.FLOAT32)
    weights = [builder.parameter(name, TensorType((8, 8), ScalarType.FLOAT32)) for name in "abcd"]
    q, k, v, other = (
        builder.emit("reshape", builder.emit("linear", x, weight), shape=("tokens", 1, 8))
        for weight in weights
    )
    first = builder.emit("attention", q, k, v, scale=1.0, soft_cap=0.0, window=0)
    second = builder.emit("attention", other, k, v, scale=1.0, soft_cap=0.0, window=0)
    prepare = GraphBuilder()
    given = [prepare.input(name, (8, 8), ScalarType.FLOAT32) for name in "abcd"]
    module = Module("m", "fused", prepare.build(*given), builder.build(first, second))
    result = FuseQKV().run(module)
    verify(result.module)
    linears = [op for op in result.module.forward.operations if op.operator == "linear"]
    assert [linear.operands[1].name for linear in linears] == ["a+b+c", "d"]


def test_a_check_needs_a_few_tokens() -> None:
    with pytest.raises(CompileError, match="at least 4 tokens, not 3"):
        InterpreterChecker(MODELS["llama"].weights, vocab_size=9, num_tokens=3)


def test_schemes_are_found_by_name() -> None:
    assert find_assignment("none") is None
    assert find_assignment("int8_g32").head == "int8_g32"
    assert find_assignment("int4").head == "int8_row"
    assert find_assignment("q4_k").linear == "q4_k"
    assert find_assignment("q4_k").head == "q6_k"
    assert find_assignment("int6").head == find_assignment("mxfp4").embedding == "int8_g32"
    with pytest.raises(
        CompileError, match="no quantization scheme or format 'int9'; there are none, int8, int2, int3"
    ):
        find_assignment("int9")


def test_dead_code_keeps_inputs_of_forward() -> None:
    builder = GraphBuilder()
    builder.input("positions", ["tokens"], ScalarType.INT32)
    x = builder.input("x", ["tokens"], ScalarType.FLOAT32)
    module = Module("m", "plain", GraphBuilder().build(), builder.build(x))
    assert not EliminateDeadCode().run(module).modified


def test_the_checker_needs_each_input() -> None:
    builder = GraphBuilder()
    x = builder.input("images", ["tokens", 4], ScalarType.FLOAT32)
    module = Module("m", "plain", GraphBuilder().build(), builder.build(x))
    with pytest.raises(IRError, match="'images'"):
        checker(MODELS["llama"]).logits(module)


def test_recurrent_layers_keep_their_values_in_pages() -> None:
    """Convolutions and a scan beside attention, in ragged steps over slots of state."""
    case = Path(__file__).parents[1] / "golden" / "page_kv_cache" / "recurrent.ir"
    module = parse_module(case.read_text().split("\n----\n")[1])
    shapes = {value.name: bind_shape(value.type.shape, {}) for value in module.prepare.inputs}

    def weights(name: str) -> np.ndarray:
        generator = np.random.default_rng(sum(name.encode()))
        return (generator.standard_normal(shapes[name]) / np.sqrt(shapes[name][-1])).astype(np.float32)

    check = InterpreterChecker(weights, vocab_size=40, num_tokens=40)
    paged = PageKVCache(4, CacheType.FLOAT32).run(module).module
    spread = check.logits(module).std()
    assert spread > 1e-3
    assert check.largest_difference(module, paged) < 1e-4 * spread


def test_pages_are_so_large_that_slots_of_state_take_no_more_than_keys_and_values() -> None:
    case = Path(__file__).parents[1] / "golden" / "page_kv_cache" / "recurrent.ir"
    recurrent = parse_module(case.read_text().split("\n----\n")[1])
    llama = MODELS["llama"].module()
    # The slots take 840 bytes, a token's keys and values 96, or 48 in float16.
    assert page_size_of(PageKVCache(None, CacheType.FLOAT32).run(recurrent).module.forward) == 16
    assert page_size_of(PageKVCache(None, CacheType.FLOAT16).run(recurrent).module.forward) == 32
    options = PipelineOptions(max_seq_len=64)
    assert page_size_of(run_passes(llama, build_pipeline(options)).module.forward) == 16
