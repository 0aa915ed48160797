"""What this machine is: system, processor, features, cores, memory. Nothing here needs the compiler."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from .control_groups import memory_limits
from .features import (
    FEATURES_VARIABLE,
    RegisterStates,
    Withheld,
    features_left_out,
    register_states,
    usable_features,
)
from .system_files import numbers_of_lines, text_of
from .topology import Cache, Topology, allowed_processors, read_topology

__all__ = ["Host", "available_memory_bytes", "detect_host", "read_host"]

# What every Apple silicon has, and what some have, by the names that macOS and Linux give it.
_APPLE_FEATURES = ("asimd", "asimddp", "asimdhp", "asimdrdm", "atomics", "crc32", "fphp")
_APPLE_OPTIONS = {"FEAT_I8MM": "i8mm", "FEAT_BF16": "bf16"}

_MOST_NAMED = 3
"""Features in a sentence."""


@dataclass(frozen=True, slots=True)
class Host:
    """This machine, as far as this process may use it.

    Attributes:
        system: as Python's ``platform`` calls it, like ``machine``.
        cpu: what the processor calls itself.
        features: those that can be used, spelled as in Linux' ``/proc/cpuinfo``.
        num_cores: physical ones to compute on: no slow ones beside fast ones, none that a quota has no time
            for.
        memory_bytes: physical memory, within a container's limit.
        topology: cores, caches and memory in detail.
        withheld: features that the processor has and this process cannot use, and why.
    """

    system: str
    machine: str
    cpu: str
    features: frozenset[str]
    num_cores: int
    memory_bytes: int
    topology: Topology = field(default_factory=Topology)
    withheld: tuple[Withheld, ...] = ()

    def lacking(self, features: Iterable[str]) -> str:
        """Which of ``features`` cannot be used here, the first of them by name, and why, where it is not that
        the processor has none; empty where all can.
        """
        missing = sorted(set(features) - self.features)
        named = ", ".join(missing[:_MOST_NAMED])
        if len(missing) > _MOST_NAMED:
            named += f" and {len(missing) - _MOST_NAMED} more"
        reasons = dict.fromkeys(withheld.reason for withheld in self.withheld if withheld.feature in missing)
        return named + (f" ({'; '.join(reasons)})" if reasons else "")


@cache
def detect_host() -> Host:
    """The machine this process runs on.

    Where the processor has AMX, this is what asks the system for it, so it must come before threads that use
    it. Raises :class:`IngotError` where the environment's ``INGOT_CPU_FEATURES`` is nothing that can be done.
    """
    machine, left_out = platform.machine(), os.environ.get(FEATURES_VARIABLE, "")
    match platform.system():
        case "Linux":
            return read_host(machine, register_states() if machine == "x86_64" else None, left_out=left_out)
        case "Darwin":
            return _read_darwin(machine, left_out)
        case system:
            cpu = platform.processor() or machine
            return Host(system, machine, cpu, frozenset(), os.cpu_count() or 1, _physical_memory())


def read_host(
    machine: str, states: RegisterStates | None, *, root: Path = Path("/"), left_out: str = ""
) -> Host:
    """A machine with Linux.

    Args:
        machine: ``x86_64``, ``aarch64``, ...
        states: which registers the system keeps, on x86-64.
        root: where ``proc`` and ``sys`` are found.
        left_out: features not to use, as ``INGOT_CPU_FEATURES`` has them.
    """
    allowed = allowed_processors(root) or _own_processors()
    cpu, listed = _read_cpuinfo(text_of(root / "proc/cpuinfo"), allowed)
    features, withheld = usable_features(listed, states, features_left_out(left_out))
    total = numbers_of_lines(root / "proc/meminfo").get("MemTotal")
    memory = [_physical_memory() if total is None else total << 10]
    memory += [limit.num_bytes for limit in memory_limits(root)]
    topology = read_topology(root, allowed)
    return Host(
        "Linux", machine, cpu or machine, features, topology.num_cores, min(memory), topology, withheld
    )


def _own_processors() -> frozenset[int]:
    """What the system tells Python, where its files say nothing."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _read_cpuinfo(text: str, allowed: frozenset[int]) -> tuple[str, frozenset[str]]:
    """The first processor's name, and what all that are allowed have: threads move from one to another."""
    name, common = "", list[frozenset[str]]()
    for number, block in enumerate(text.split("\n\n")):
        lines = (line.partition(":") for line in block.splitlines())
        fields = {key.strip(): value.strip() for key, _, value in lines}
        name = name or fields.get("model name", "")
        flags = fields.get("flags") or fields.get("Features")
        written = fields.get("processor", "")
        processor = int(written) if written.isdecimal() else number
        if flags is not None and processor in allowed:
            common.append(frozenset(flags.split()))
    return name, frozenset.intersection(*common) if common else frozenset()


def _read_darwin(machine: str, left_out: str) -> Host:
    """A Mac. Its fast cores are those of performance level 0."""
    features: tuple[str, ...] = ()
    if machine == "arm64":
        has = (linux for apple, linux in _APPLE_OPTIONS.items() if _sysctl(f"hw.optional.arm.{apple}") == 1)
        features = (*_APPLE_FEATURES, *has)
    usable, withheld = usable_features(features, None, features_left_out(left_out))
    cores = _sysctl("hw.physicalcpu") or os.cpu_count() or 1
    fast = _sysctl("hw.perflevel0.physicalcpu") or cores
    sharing = _sysctl("hw.perflevel0.cpusperl2") or 1
    l1d = _sysctl("hw.perflevel0.l1dcachesize") or _sysctl("hw.l1dcachesize")
    l2 = _sysctl("hw.perflevel0.l2cachesize") or _sysctl("hw.l2cachesize")
    topology = Topology(
        num_processors=os.cpu_count() or 1,
        num_allowed=os.cpu_count() or 1,
        num_physical_cores=cores,
        num_slow_cores=cores - fast,
        caches=tuple(Cache(*level) for level in ((1, l1d, 1), (2, l2, sharing)) if level[1]),
    )
    cpu = _sysctl_text("machdep.cpu.brand_string") or machine
    host = Host("Darwin", machine, cpu, usable, topology.num_cores, _physical_memory(), topology)
    return replace(host, withheld=withheld)


def _sysctl(name: str) -> int:
    """A number that macOS knows by this name; 0 where it knows none."""
    text = _sysctl_text(name)
    return int(text) if text.isdecimal() else 0


def _sysctl_text(name: str) -> str:
    result = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return result.stdout.strip()


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_memory_bytes(root: Path = Path("/")) -> int:
    """Memory that can be had now without swapping, within a container's limit; all there is where the system
    does not tell.

    What files occupy counts as available: the system gives it up when it is asked for.

    Args:
        root: where ``proc`` and ``sys`` are found.
    """
    available = numbers_of_lines(root / "proc/meminfo").get("MemAvailable")
    left = [detect_host().memory_bytes if available is None else available << 10]
    for limit in memory_limits(root):
        if limit.used_bytes is not None:
            left.append(max(0, limit.num_bytes - limit.used_bytes + limit.file_bytes))
    return min(left)
