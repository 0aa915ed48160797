"""Counting what a step reads and computes, against counts by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from ingot.ir.errors import ArtifactError
from ingot.runtime.bench.counting import count_work
from ingot.runtime.bench.model_work import Arithmetic, Cache
from ingot.runtime.execution.artifact import Artifact, open_artifact

from ...compiled import WHOLE_GROUPS, compile_tiny

_HIDDEN, _BETWEEN, _HEADS, _KV_HEADS, _HEAD_DIM, _LAYERS, _VOCAB = 48, 80, 6, 2, 10, 4, 307


def _open(path: Path) -> Artifact:
    artifact = open_artifact(path)
    artifact.check()
    return artifact


def test_a_float_model(tmp_path_factory: pytest.TempPathFactory) -> None:
    work = count_work(_open(compile_tiny("llama", tmp_path_factory.getbasetemp())))
    queries, keys = _HEADS * _HEAD_DIM, _KV_HEADS * _HEAD_DIM
    layer = _HIDDEN * (queries + 2 * keys) + queries * _HIDDEN + 3 * _HIDDEN * _BETWEEN
    assert work.operations_per_token == 2 * _LAYERS * layer
    assert work.operations_per_row == 2 * _HIDDEN * _VOCAB
    assert work.prefill_operations(7) == 7 * 2 * _LAYERS * layer + 2 * _HIDDEN * _VOCAB
    assert work.arithmetic is Arithmetic.FLOAT32
    # Outputs come in blocks of 16; the table of the embedding is not read.
    padded = {size: -(-size // 16) * 16 for size in (queries + 2 * keys, _HIDDEN, 2 * _BETWEEN, _VOCAB)}
    stored = _LAYERS * (
        padded[queries + 2 * keys] * _HIDDEN
        + padded[_HIDDEN] * (queries + _BETWEEN)
        + padded[2 * _BETWEEN] * _HIDDEN
    )
    assert work.weight_bytes == 4 * (stored + padded[_VOCAB] * _HIDDEN)
    assert work.kv_bytes(10) == 10 * _LAYERS * 2 * keys * 4
    assert work.decode_bytes(3, 10) == work.weight_bytes + 3 * work.kv_bytes(10)


def test_a_quantized_model_computes_in_integers(tmp_path_factory: pytest.TempPathFactory) -> None:
    artifact = _open(compile_tiny("llama", tmp_path_factory.getbasetemp(), quant="int4", **WHOLE_GROUPS))
    assert count_work(artifact).arithmetic is Arithmetic.INT8


def test_only_chosen_experts_are_read_and_computed_with(tmp_path_factory: pytest.TempPathFactory) -> None:
    parent = tmp_path_factory.getbasetemp()
    two, five = (
        count_work(_open(compile_tiny("mixtral", parent, num_experts_per_tok=chosen))) for chosen in (2, 5)
    )
    of_one = 4 * _LAYERS * (2 * _BETWEEN * _HIDDEN + _HIDDEN * _BETWEEN)
    assert two.decode_bytes(1, 10) == pytest.approx(two.weight_bytes + 2 * of_one + two.kv_bytes(10))
    assert two.decode_bytes(100, 10) == pytest.approx(two.weight_bytes + 5 * of_one + 100 * two.kv_bytes(10))
    assert five.weight_bytes == two.weight_bytes
    assert five.operations_per_token - two.operations_per_token == 2 * 3 * of_one // 4


def test_a_window_bounds_what_attention_reads(tmp_path_factory: pytest.TempPathFactory) -> None:
    work = count_work(_open(compile_tiny("mistral", tmp_path_factory.getbasetemp(), sliding_window=7)))
    assert work.kv_bytes(6) == pytest.approx(6 / 7 * work.kv_bytes(7))
    assert work.kv_bytes(7) == work.kv_bytes(100)


def test_an_artifact_without_its_text_is_refused_by_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    opened = _open(compile_tiny("llama", tmp_path_factory.getbasetemp()))
    elsewhere = replace(opened, folder=opened.folder / "ir")
    with pytest.raises(ArtifactError, match=r"ir/ir/paged\.ir cannot be read"):
        count_work(elsewhere)


def test_what_a_cache_is_read_for() -> None:
    whole = Cache(frozenset({"keys"}), bytes_per_position=6, window=0, operations_per_pair=4)
    assert whole.positions_read(10, 4) == 10
    assert whole.num_pairs(10, 4) == 7 + 8 + 9 + 10
    windowed = replace(whole, window=3)
    # The first of the four sees positions 4, 5 and 6, the last 7, 8 and 9.
    assert windowed.positions_read(10, 4) == 6
    assert windowed.num_pairs(10, 4) == 4 * 3
    assert windowed.num_pairs(4, 4) == 1 + 2 + 3 + 3
