"""The host library and the device over it, on a fake of macOS: memory, kernels, order, errors, owners."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ingot.ir.errors import ArtifactError, CapacityError
from ingot.runtime.execution.gpu.device import KernelLaunch
from ingot.runtime.execution.gpu.metal_device import MetalDevice, open_metal
from ingot.runtime.execution.mapped_arrays import MappedArrays
from ingot.targets import find_metal_gpu, metal
from ingot.targets.manifest import ArrayRecord

from .mac import Mac, compile_kernels, needs_compiler

pytestmark = needs_compiler

PROGRAM = "kernel void add(...)"
KERNELS = """
extern "C" void launch_add(const int* grid, int threads, void** values) {
  if (!grid) { *(int*)values[0] = 4; return; }
  const float* x = *(const float**)values[0];
  float* y = *(float**)values[1];
  int count = *(int*)values[2], times = *(int*)values[3];
  for (int i = 0; i < grid[0] * grid[1] * grid[2] * threads && i < count; ++i) y[i] = x[i] * times + y[i];
}
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_kernels(KERNELS, tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def device(mac: Mac, plan: Path) -> Iterator[MetalDevice]:
    opened = open_metal(plan)
    yield opened
    opened.close()
    assert mac.complaints == []
    assert mac.count("living_objects") == 0
    assert mac.count("allocated") == 0


@pytest.fixture
def plan(mac: Mac, kernels: Path, tmp_path: Path, host_library: bytes) -> Path:
    mac.knows(PROGRAM, kernels)
    (tmp_path / "metal.dylib").write_bytes(host_library)
    (tmp_path / "metal.metal").write_text(PROGRAM)
    return tmp_path / "metal.json"


def filled(device: MetalDevice, array: np.ndarray) -> int:
    address = device.allocate(array.nbytes)
    device.write(address, array)
    return address


def test_what_the_host_tells_of_its_gpu(mac: Mac) -> None:
    gpu = find_metal_gpu()
    assert gpu is not None
    assert (gpu.name, gpu.memory_bytes) == ("Fake M1", 1 << 30)
    assert mac.count("living_objects") == 0
    assert mac.complaints == []


def test_a_mac_whose_gpu_is_not_apples_has_none(mac: Mac, plan: Path) -> None:
    mac.set("family", 1006)
    metal._find.cache_clear()
    assert find_metal_gpu() is None
    with pytest.raises(ArtifactError, match="this machine shows no GPU of Apple's own"):
        open_metal(plan)


def test_no_metal_is_a_sentence(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metal, "FRAMEWORK", "/no/Metal")
    with pytest.raises(ArtifactError, match="there is no Metal here: /no/Metal cannot be used"):
        open_metal(plan)
    monkeypatch.setattr(metal, "OBJECTIVE_C", "/no/libobjc.A.dylib")
    with pytest.raises(ArtifactError, match=r"there is no Objective-C here: /no/libobjc.A.dylib is missing"):
        open_metal(plan)


def test_memory_begins_as_zeros_and_is_given_back(mac: Mac, device: MetalDevice) -> None:
    free, total = device.memory_bytes()
    assert (free, total) == (1 << 30, 1 << 30)
    address = device.allocate(1000)
    array = np.ones(1000, np.uint8)
    device.read(address, array)
    assert not array.any()
    assert device.memory_bytes()[0] == free - 1000
    device.free(address)
    assert device.memory_bytes()[0] == free


def test_memory_that_is_not_there_is_a_sentence(mac: Mac, device: MetalDevice) -> None:
    with pytest.raises(
        CapacityError, match=r"600.0 MiB are asked of Fake M1, which gives out 512.0 MiB at once"
    ):
        device.allocate(600 << 20)
    mac.set("working_set", 1 << 20)
    with pytest.raises(
        CapacityError, match=r"2.0 MiB do not fit .* 1.0 MiB of the 1.0 MiB .* less kv_memory"
    ):
        device.allocate(2 << 20)


def test_what_is_launched_is_done_in_order(mac: Mac, device: MetalDevice, plan: Path) -> None:
    (add,) = device.load(plan.with_suffix(".metal"), ["add"]).values()
    x, y = filled(device, np.arange(8, dtype=np.float32)), filled(device, np.ones(9, np.float32))
    commits = mac.count("commits")
    # Into the middle of a buffer, a hundred times: more than a command buffer takes.
    once = KernelLaunch(add, (1, 2, 1), 4, (x, y + 4, np.int32(8), np.int32(-1)))
    twice = KernelLaunch(add, (1, 1, 8), 1, (y + 4, y + 4, np.int32(8), np.int32(1)))
    device.launch([once, *[twice] * 99])
    assert mac.count("commits") == commits + 2
    result = np.empty(9, np.float32)
    device.read(y, result)
    expected = np.ldexp(np.ones(8, np.float32) - np.arange(8, dtype=np.float32), 99)
    np.testing.assert_array_equal(result, [1, *expected])


def test_what_is_recorded_is_launched_when_it_is_called(device: MetalDevice, plan: Path) -> None:
    (add,) = device.load(plan.with_suffix(".metal"), ["add"]).values()
    x, y = filled(device, np.ones(4, np.float32)), device.allocate(16)
    again = device.record([KernelLaunch(add, (1, 1, 1), 4, (x, y, np.int32(4), np.int32(3)))])
    result = np.empty(4, np.float32)
    device.read(y, result)
    assert not result.any()
    again()
    again()
    device.copy(y + 8, x, 8)
    device.read(y, result)
    np.testing.assert_array_equal(result, [6, 6, 1, 1])


def test_a_program_is_compiled_on_older_systems_too(mac: Mac, device: MetalDevice, plan: Path) -> None:
    mac.set("math_mode", 0)
    assert list(device.load(plan.with_suffix(".metal"), ["add"])) == ["add"]


def test_kernels_that_cannot_be_used_are_sentences(mac: Mac, device: MetalDevice, plan: Path) -> None:
    source = plan.with_suffix(".metal")
    with pytest.raises(
        ArtifactError, match=r"metal.metal cannot be used on Fake M1: the program has no kernel sub"
    ):
        device.load(source, ["sub"])
    mac.set("lanes", 16)
    with pytest.raises(
        ArtifactError, match="the kernel add runs 16 threads at a time, and is written for 32"
    ):
        device.load(source, ["add"])
    source.write_text("kernal void add(...)")
    with pytest.raises(
        ArtifactError, match=r"Metal refuses the kernels: .*error: unknown type name 'kernal'"
    ):
        device.load(source, ["add"])


def test_launches_that_cannot_be_are_sentences(mac: Mac, device: MetalDevice, plan: Path) -> None:
    (add,) = device.load(plan.with_suffix(".metal"), ["add"]).values()
    y = device.allocate(16)
    nowhere = KernelLaunch(add, (1, 1, 1), 4, (y, y + 16, np.int32(4), np.int32(3)))
    with pytest.raises(
        RuntimeError, match="argument 1 of a kernel points to memory that the GPU does not have"
    ):
        device.launch([nowhere])
    mac.set("most_threads", 448)
    many = KernelLaunch(add, (1, 1, 1), 512, (y, y, np.int32(4), np.int32(3)))
    with pytest.raises(
        RuntimeError, match="launched with blocks of 512 threads, and runs on this GPU with up to 448"
    ):
        device.launch([many])


def test_what_fails_on_the_gpu_is_a_sentence(mac: Mac, device: MetalDevice, plan: Path) -> None:
    (add,) = device.load(plan.with_suffix(".metal"), ["add"]).values()
    y = device.allocate(16)
    mac.set("fails", 1)
    device.launch([KernelLaunch(add, (1, 1, 1), 4, (y, y, np.int32(4), np.int32(3)))])
    with pytest.raises(
        RuntimeError, match="Fake M1: the GPU did not do what it was given: Caused GPU Timeout Error"
    ):
        device.synchronize()
    mac.set("fails", 0)
    device.synchronize()


@pytest.mark.parametrize(
    ("shares", "longest", "num_shared"), [(1, 1 << 29, 1), (1, 5 << 14, 2), (0, 1 << 29, 0)]
)
def test_weights_are_used_where_they_lie_or_copied(
    shares: int, longest: int, num_shared: int, mac: Mac, device: MetalDevice, tmp_path: Path
) -> None:
    mac.set("shares", shares)
    mac.set("longest_buffer", longest)
    values = np.random.default_rng(3).integers(0, 255, 100_000, np.uint8)
    values.tofile(tmp_path / "weights.bin")
    records = [
        ArrayRecord("weights.bin", offset, (size,), "uint8")
        for offset, size in [(60_160, 39_840), (0, 60_160)]
    ]
    before = mac.count("shared")
    placed = device.place(MappedArrays(tmp_path), records)
    assert mac.count("shared") == before + num_shared
    assert (mac.count("allocated") > 0) == (not shares)
    for record, address in zip(records, placed, strict=True):
        array = np.empty(record.shape, np.uint8)
        device.read(address, array)
        np.testing.assert_array_equal(array, values[record.offset :][: len(array)])


def test_an_array_longer_than_a_buffer_is_refused(mac: Mac, device: MetalDevice, tmp_path: Path) -> None:
    mac.set("longest_buffer", 1 << 14)
    np.zeros(50_000, np.uint8).tofile(tmp_path / "weights.bin")
    with pytest.raises(ArtifactError, match=r"weights.bin takes .* and the GPU takes 16.0 KiB at once"):
        device.place(MappedArrays(tmp_path), [ArrayRecord("weights.bin", 0, (50_000,), "uint8")])
