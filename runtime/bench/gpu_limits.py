"""What a GPU can do at most, measured by the probes that an artifact's plan carries.

They are of the instructions that the plan's kernels are made of. The best time of several counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from ...targets import detect_host
from ...targets.launch_plan import LaunchPlan, Probe, read_plan
from ...targets.manifest import LibraryRecord
from ...targets.threads import use_all_cores
from ..execution.artifact import Artifact
from ..execution.gpu.arena import place_buffers
from ..execution.gpu.device import Device
from ..execution.gpu.loading import find_module
from ..execution.gpu.opening import open_device
from ..execution.gpu.replay import Replay
from .records import HostRecord

__all__ = ["SYMBOLS", "measure_gpu"]

SYMBOLS: Mapping[str, int] = {"vectors": 1 << 24, "blocks": 4224, "rounds": 32}
"""How much probes do: 256 MiB are copied, more than caches hold; blocks fill large devices several times."""

_SECONDS = 0.5
"""How long each probe is repeated."""

_AT_ONCE = 8
"""Runs that are timed together, so that waiting for the device hardly counts."""


def measure_gpu(
    artifact: Artifact,
    library: LibraryRecord,
    *,
    symbols: Mapping[str, int] = SYMBOLS,
    seconds: float = _SECONDS,
) -> HostRecord:
    """Measure the device that runs an artifact's library, for about ``seconds`` with each of its probes."""
    plan = read_plan(artifact.folder / library.path)
    artifact.check()
    device = open_device(artifact, library)
    try:
        rates = {
            probe.name: _rate(artifact, library, plan, probe, device, symbols, seconds)
            for probe in plan.probes
        }
        return HostRecord(
            cpu=detect_host().cpu,
            threads=use_all_cores(),
            read_gb_s=None,
            int8_tops=_in(rates.get("int8"), 1e12),
            bf16_tflops=_in(rates.get("bfloat16"), 1e12),
            float32_tflops=_in(rates.get("float32"), 1e12),
            gpu=device.name,
            copy_gb_s=_in(rates.get("copy"), 1e9),
        )
    finally:
        device.close()


def _rate(
    artifact: Artifact,
    library: LibraryRecord,
    plan: LaunchPlan,
    probe: Probe,
    device: Device,
    symbols: Mapping[str, int],
    seconds: float,
) -> float:
    """Bytes or operations a second."""
    offsets, num_bytes = place_buffers(probe.group.buffers, symbols)
    arena = device.allocate(num_bytes)
    module = find_module(artifact.folder, library, plan, device)
    functions = device.load(module, [launch.kernel for launch in probe.group.launches])
    addresses = {("buffer", name): arena + offset for name, offset in offsets.items()}
    replay = Replay(device, functions, probe.group.launches, addresses)
    best, ends = float("inf"), time.perf_counter() + seconds
    replay.run(symbols)
    replay.run(symbols)
    device.synchronize()
    while time.perf_counter() < ends or best == float("inf"):
        started = time.perf_counter()
        for _ in range(_AT_ONCE):
            replay.run(symbols)
        device.synchronize()
        best = min(best, (time.perf_counter() - started) / _AT_ONCE)
    device.free(arena)
    return probe.amount.value(symbols) / best


def _in(rate: float | None, unit: float) -> float | None:
    return None if rate is None else rate / unit
