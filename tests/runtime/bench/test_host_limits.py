"""Measuring the machine with the probes of a library."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ingot.runtime.bench.host_limits import measure_host
from ingot.runtime.bench.memory import peak_memory_bytes
from ingot.runtime.bench.records import HostRecord
from ingot.runtime.execution.artifact import open_artifact
from ingot.targets import detect_host

from ...compiled import compile_tiny


def test_limits_are_those_of_a_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    artifact = open_artifact(compile_tiny("llama", tmp_path_factory.getbasetemp()))
    host = measure_host(artifact, seconds=0.1, read_bytes=1 << 26)
    assert host.cpu == detect_host().cpu
    assert host.threads >= 1
    # The slowest machine of today, busy with other things, and the fastest.
    assert host.read_gb_s is not None
    assert 0.1 < host.read_gb_s < 5e4
    assert host.float32_tflops is not None
    assert 0.001 < host.float32_tflops < 1000
    assert host.int8_tops is not None
    assert (host.bf16_tflops is None) == ("avx512_bf16" not in detect_host().features)
    if host.bf16_tflops is not None:
        assert 0.001 < host.bf16_tflops < 2000
    # Four products take an instruction that one float takes, three at worst.
    assert host.int8_tops > host.float32_tflops / 2


def test_the_higher_of_two_limits_counts() -> None:
    first = HostRecord("a machine", 2, 30.0, 1.0, None, None)
    second = HostRecord("a machine", 2, 20.0, 2.0, 0.5, None)
    assert first.best_of(second) == HostRecord("a machine", 2, 30.0, 2.0, 0.5, None)


def _child_peak(statement: str) -> int:
    code = "from ingot.runtime.bench.memory import forget_peak_memory, peak_memory_bytes"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {statement}; print(peak_memory_bytes())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_peak_memory_is_the_most_that_this_process_alone_has_held() -> None:
    plain = _child_peak("pass")
    assert plain > 1 << 20
    # Freed again, and still counted; unless it is forgotten.
    assert _child_peak("b'.' * (1 << 26)") - plain > 0.9 * (1 << 26)
    if Path("/proc/self/clear_refs").exists():
        assert _child_peak("b'.' * (1 << 26); forget_peak_memory()") - plain < 0.5 * (1 << 26)
    held = np.ones(4 * plain, np.uint8)
    assert peak_memory_bytes() > held.nbytes
    assert _child_peak("pass") < 2 * plain
