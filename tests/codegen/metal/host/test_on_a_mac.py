"""On a Mac with Apple silicon: ``make test PYTEST_ARGS="-m metal"``, with the extra [cross] installed.

The first tests need neither torch nor a model, and say most where something is wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ingot.codegen.metal.host_library import build_host_library
from ingot.ir.errors import ArtifactError
from ingot.runtime.execution.gpu.device import KernelLaunch
from ingot.runtime.execution.gpu.metal_device import open_metal
from ingot.runtime.execution.mapped_arrays import MappedArrays
from ingot.targets import find_metal_gpu
from ingot.targets.manifest import ArrayRecord

pytestmark = pytest.mark.metal

PROGRAM = """
#include <metal_stdlib>
[[kernel]] void add(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                    constant int& count [[buffer(2)]], constant int& times [[buffer(3)]],
                    uint at [[thread_position_in_grid]]) {
  if (int(at) < count) y[at] += x[at] * times;
}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "metal.dylib").write_bytes(build_host_library())
    (tmp_path / "metal.metal").write_text(PROGRAM)
    return tmp_path / "metal.json"


def test_its_gpu_is_found() -> None:
    gpu = find_metal_gpu()
    assert gpu is not None
    assert gpu.name.startswith("Apple")
    assert gpu.memory_bytes > 1 << 30


def test_kernels_are_compiled_and_run_in_order(plan: Path) -> None:
    device = open_metal(plan)
    (add,) = device.load(plan.with_suffix(".metal"), ["add"]).values()
    x, y = device.allocate(4096), device.allocate(4096)
    device.write(x, np.arange(1024, dtype=np.float32))
    once = KernelLaunch(add, (4, 1, 1), 256, (x, y, np.int32(1000), np.int32(2)))
    again = device.record([KernelLaunch(add, (4, 1, 1), 256, (y, y, np.int32(1000), np.int32(1)))] * 100)
    device.launch([once])
    again()
    result = np.empty(1024, np.float32)
    device.read(y, result)
    expected = np.ldexp(np.arange(1024, dtype=np.float32), 101)
    np.testing.assert_array_equal(result, np.where(np.arange(1024) < 1000, expected, 0))
    device.close()


def test_weights_are_used_where_their_file_is_mapped(plan: Path) -> None:
    values = np.random.default_rng(3).random(100_000, np.float32)
    values.tofile(plan.parent / "weights.bin")
    records = [ArrayRecord("weights.bin", 4 * start, (1000,), "float32") for start in (0, 51_200, 99_000)]
    device = open_metal(plan)
    (add,) = device.load(plan.with_suffix(".metal"), ["add"]).values()
    free = device.memory_bytes()[0]
    for record, address in zip(records, device.place(MappedArrays(plan.parent), records), strict=True):
        y, result = device.allocate(4000), np.empty(1000, np.float32)
        device.launch([KernelLaunch(add, (4, 1, 1), 256, (address, y, np.int32(1000), np.int32(1)))])
        device.read(y, result)
        np.testing.assert_array_equal(result, values[record.offset // 4 :][:1000])
    assert device.memory_bytes()[0] <= free
    device.close()


def test_what_is_wrong_with_a_kernel_is_told(plan: Path) -> None:
    device = open_metal(plan)
    source = plan.with_suffix(".metal")
    source.write_text(PROGRAM.replace("count)", "amount)"))
    with pytest.raises(ArtifactError, match="amount"):
        device.load(source, ["add"])
    device.close()
