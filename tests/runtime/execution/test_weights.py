"""Weights are the same wherever they are read."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ingot.runtime.execution import weights as weights_module
from ingot.runtime.execution.artifact import open_artifact
from ingot.runtime.execution.input_buffers import InputBuffers
from ingot.runtime.execution.mapped_arrays import MappedArrays
from ingot.runtime.execution.memory import are_huge, empty_pages, give_back, populate
from ingot.runtime.execution.memory_plan import plan_memory
from ingot.runtime.execution.weights import Weights
from ingot.targets import detect_host
from ingot.targets.manifest import InputRecord

from ...compiled import compile_tiny


def _wait(weights: Weights) -> None:
    deadline = time.monotonic() + 60
    while weights.is_settling and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not weights.is_settling


@pytest.mark.parametrize("is_room", [True, False])
def test_what_lies_in_small_pages_is_copied_where_there_is_room(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, is_room: bool
) -> None:
    artifact = open_artifact(compile_tiny("llama", tmp_path_factory.getbasetemp()))
    artifact.check()
    manifest = artifact.manifest
    plan = plan_memory(
        manifest,
        kv_memory=None,
        max_num_seqs=1,
        max_num_batched_tokens=8,
        available_bytes=2**40 if is_room else None,
    )
    if not is_room:
        monkeypatch.setattr(type(plan), "total_bytes", plan.available_bytes)
    monkeypatch.setattr(weights_module, "are_huge", lambda mapped: False)
    _give_out_huge_pages(monkeypatch, "madvise")
    weights = Weights(artifact.arrays, manifest, plan)
    before = list(weights.tensors)
    weights.settle()
    weights.settle()
    _wait(weights)
    assert all((old is new) is not is_room for old, new in zip(before, weights.tensors, strict=True))
    records = [array for parameter in manifest.parameters for array in parameter.arrays]
    kept = MappedArrays(artifact.folder)
    for record, old, new in zip(records, before, weights.tensors, strict=True):
        assert np.from_dlpack(new).tobytes() == kept[record].tobytes()
        assert np.from_dlpack(old).tobytes() == kept[record].tobytes()
    weights.close()
    assert weights.tensors == []


def _give_out_huge_pages(monkeypatch: pytest.MonkeyPatch, to_whom: str) -> None:
    host = detect_host()
    host = replace(host, topology=replace(host.topology, huge_pages=to_whom))
    monkeypatch.setattr(weights_module, "detect_host", lambda: host)


@pytest.mark.parametrize("to_whom", ["never", ""])
def test_without_huge_pages_weights_stay_in_their_file(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, to_whom: str
) -> None:
    artifact = open_artifact(compile_tiny("llama", tmp_path_factory.getbasetemp()))
    manifest = artifact.manifest
    plan = plan_memory(
        manifest, kv_memory=None, max_num_seqs=1, max_num_batched_tokens=8, available_bytes=2**40
    )
    monkeypatch.setattr(weights_module, "are_huge", lambda mapped: False)
    _give_out_huge_pages(monkeypatch, to_whom)
    weights = Weights(artifact.arrays, manifest, plan)
    before = list(weights.tensors)
    weights.settle()
    _wait(weights)
    assert all(old is new for old, new in zip(before, weights.tensors, strict=True))


def test_a_mapped_file_can_be_given_back_and_read_again(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3 * 4096 + 100)
    (tmp_path / "file").write_bytes(content)
    mapped = MappedArrays(tmp_path).file("file")
    populate(mapped)
    assert mapped.tobytes() == content
    give_back(mapped[10:9000])
    give_back(mapped[5:6])
    assert mapped.tobytes() == content
    assert are_huge(mapped) in (True, False)


def test_memory_begins_as_zeros_at_the_start_of_a_page() -> None:
    for shape in ((0, 3), (5,), (3, 1 << 20)):
        memory = empty_pages(shape, np.dtype(np.float32))
        assert memory.shape == shape
        assert memory.ctypes.data % 4096 == 0
        assert not memory[:, :1].any() if len(shape) > 1 else not memory.any()


def test_inputs_have_room_for_every_step() -> None:
    record = InputRecord("token_ids", ("tokens",), "int32")
    buffers = InputBuffers([record])
    for count in (0, 3, 5000, 1, 1_000_000):
        array = np.arange(count, dtype=np.int32).reshape(-1, 1)
        (given,) = buffers.fill({"token_ids": array})
        np.testing.assert_array_equal(np.from_dlpack(given), array)
