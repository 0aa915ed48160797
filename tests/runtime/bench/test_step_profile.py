"""Where the time of a step goes, on tiny models of several kinds."""

from typing import Any

import numpy as np
import pytest
from ingot.runtime.bench.counting import count_work
from ingot.runtime.bench.records import HostRecord
from ingot.runtime.bench.step_calls import RecordingTvmExecutor
from ingot.runtime.bench.step_profile import StepProfiler
from ingot.runtime.engine.engine_stats import PhaseSeconds
from ingot.runtime.execution.artifact import Artifact, open_artifact
from ingot.runtime.scheduling.step import LogitRows, SequenceChunk, Step

from ...compiled import WHOLE_GROUPS, compile_tiny

_HOST = HostRecord("a machine", 1, read_gb_s=1.0, int8_tops=0.004, bf16_tflops=0.002, float32_tflops=0.001)
_PHASES = PhaseSeconds(schedule=0.001, execute=9.0, sample=0.5, grammar=0.002, emit=0.003)


def _open(tmp_path_factory: pytest.TempPathFactory, architecture: str, **options: Any) -> Artifact:
    return open_artifact(compile_tiny(architecture, tmp_path_factory.getbasetemp(), **options))


def _profiler(artifact: Artifact) -> StepProfiler:
    work = count_work(artifact)
    limits = {"max_num_seqs": 3, "max_num_tokens": 20, "context_tokens": 40, "seconds": 0.0}
    return StepProfiler(artifact, artifact.library(device="cpu"), work, _HOST, **limits)  # type: ignore[arg-type]


def test_every_group_of_a_decoder(tmp_path_factory: pytest.TempPathFactory) -> None:
    artifact = _open(tmp_path_factory, "llama", quant="int4", **WHOLE_GROUPS)
    work = count_work(artifact)
    profiler = _profiler(artifact)
    try:
        prefill, decode = profiler.prefill(20, _PHASES), profiler.decode(3, 40, PhaseSeconds())
    finally:
        profiler.close()
    assert (prefill.phase, prefill.sequences, prefill.tokens, prefill.context_tokens) == (
        "prefill",
        1,
        20,
        20,
    )
    assert (decode.phase, decode.sequences, decode.tokens, decode.context_tokens) == ("decode", 3, 3, 40)
    for step in (prefill, decode):
        assert sum(group.share for group in step.groups) == pytest.approx(1)
        assert sum(group.ms for group in step.groups) == pytest.approx(step.step_ms)
        groups = {group.name: group for group in step.groups}
        products, head, attention = (groups[name] for name in ("products by matrices", "head", "attention"))
        assert products.bytes + head.bytes == work.weight_bytes
        rows = step.sequences
        assert head.operations == rows * 2 * 96 * 307
        assert products.operations + head.operations == pytest.approx(
            step.tokens * work.operations_per_token + rows * work.operations_per_row
        )
        assert attention.calls >= 4
        assert min(group.ms for group in (products, head, attention)) > 0
        assert products.limit in ("memory", "int8")
        assert products.fraction_of_limit is not None
    groups = {group.name: group for group in prefill.groups}
    assert groups["sampling"].ms == pytest.approx(500)
    assert groups["host"].ms >= 6


def test_bytes_of_attention_are_those_of_the_pages_it_reads(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    artifact = _open(tmp_path_factory, "mistral", sliding_window=21, kv_cache="int8")
    profiler = _profiler(artifact)
    try:
        decode = profiler.decode(2, 40, _PHASES)
    finally:
        profiler.close()
    (attention,) = (group for group in decode.groups if group.name == "attention")
    read = 2 * count_work(artifact).kv_bytes(40)
    # Besides, the newest keys and values come as rows of floats.
    assert read < attention.bytes < 2 * read


def test_slots_of_recurrent_layers_and_chosen_experts_have_their_groups(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    profiler = _profiler(_open(tmp_path_factory, "lfm2"))
    try:
        names = {group.name for group in profiler.decode(1, 3, _PHASES).groups}
    finally:
        profiler.close()
    assert {"recurrences", "attention", "products by matrices"} <= names
    artifact = _open(tmp_path_factory, "mixtral")
    profiler = _profiler(artifact)
    try:
        step = profiler.decode(1, 3, _PHASES)
    finally:
        profiler.close()
    (products,) = (group for group in step.groups if group.name == "products by matrices")
    work = count_work(artifact)
    assert products.operations == work.operations_per_token
    assert products.bytes < sum(product.num_bytes for product in work.products if not product.is_head)


def test_calls_that_are_made_again_change_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    artifact = _open(tmp_path_factory, "llama", quant="int4", **WHOLE_GROUPS)
    memory = artifact.manifest.memory
    executor = RecordingTvmExecutor(
        artifact,
        kv_memory=4 * memory.page_size * memory.kv_bytes_per_token,
        max_num_seqs=1,
        max_num_batched_tokens=20,
    )
    try:
        step = Step((SequenceChunk(0, (5, 6, 7, 8), 0, (0,), LogitRows.ALL),))
        expected = executor.run(step).logits.copy()
        calls = executor.record(step)
        assert len(executor.time(calls)) == len(calls) > 20
        after = Step((SequenceChunk(0, (8,), 3, (0,), LogitRows.LAST),))
        np.testing.assert_array_equal(executor.run(after).logits, expected[-1:])
    finally:
        executor.close()
