"""Processors, caches and memory as Linux shows them under ``/sys``, as far as this process may use them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .control_groups import cpu_quota, cpu_set
from .system_files import cpu_list, number_of, text_of

__all__ = ["Cache", "MemoryNode", "Topology", "allowed_processors", "read_topology"]

_CPUS = "sys/devices/system/cpu"
_NODES = "sys/devices/system/node"
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

_FAST = 0.75
"""A core is slow whose capacity is below this part of the best's. A product is cut into equal parts, one a
thread, so that one on such a core would keep all others waiting."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache for data of the first core that is used: ``num_cores`` of the cores allowed here share it."""

    level: int
    num_bytes: int
    num_cores: int


@dataclass(frozen=True, slots=True)
class MemoryNode:
    """Memory that some of the cores are nearer to than others."""

    number: int
    num_bytes: int
    processors: frozenset[int]


@dataclass(frozen=True, slots=True)
class Topology:
    """What there is to compute with; what a system does not tell is left at nothing.

    Attributes:
        num_processors: logical processors of the machine.
        num_allowed: those that this process may run on.
        num_physical_cores: physical cores these belong to.
        num_slow_cores: how many of these are made to save power, where others are not.
        quota: how many processors' time a control group grants; None: no limit.
        caches: from the first level on.
        nodes: memory by where it is; more than one on machines of several sockets.
        huge_pages: when the system gives them out: ``always``, ``madvise`` (to those who ask), ``never``.
    """

    num_processors: int = 0
    num_allowed: int = 0
    num_physical_cores: int = 0
    num_slow_cores: int = 0
    quota: float | None = None
    caches: tuple[Cache, ...] = ()
    nodes: tuple[MemoryNode, ...] = ()
    huge_pages: str = ""

    @property
    def num_cores(self) -> int:
        """Cores that threads should be started for: the fast ones, no more than there is time for."""
        cores = self.num_physical_cores - self.num_slow_cores
        return max(1, cores if self.quota is None else min(cores, round(self.quota)))


def allowed_processors(root: Path) -> frozenset[int]:
    """The logical processors that affinity and control group leave to this process; empty if unknown."""
    lists = (
        line.partition(":")[2]
        for line in text_of(root / "proc/self/status").splitlines()
        if line.startswith("Cpus_allowed_list:")
    )
    affinity = cpu_list(next(lists, ""))
    group = cpu_set(root)
    return affinity & group or affinity or group


def read_topology(root: Path, allowed: frozenset[int]) -> Topology:
    """What ``proc`` and ``sys`` under ``root`` say of the processors that are ``allowed``."""
    cores: dict[frozenset[int], int] = {}
    for processor in sorted(allowed):
        cores.setdefault(_siblings(root, processor) | {processor}, processor)
    slow = _slow(root, list(cores.values()))
    first = next((processor for processor in cores.values() if processor not in slow), 0)
    return Topology(
        num_processors=len(cpu_list(text_of(root / _CPUS / "present")) | allowed),
        num_allowed=len(allowed),
        num_physical_cores=len(cores),
        num_slow_cores=len(slow),
        quota=cpu_quota(root),
        caches=tuple(_caches(root, first, frozenset(cores.values()))),
        nodes=tuple(_nodes(root, allowed)),
        huge_pages=_chosen(text_of(root / "sys/kernel/mm/transparent_hugepage/enabled")),
    )


def _siblings(root: Path, processor: int) -> frozenset[int]:
    """The threads of the physical core that a logical one is a thread of."""
    folder = root / _CPUS / f"cpu{processor}/topology"
    return cpu_list(text_of(folder / "core_cpus_list") or text_of(folder / "thread_siblings_list"))


def _slow(root: Path, processors: list[int]) -> frozenset[int]:
    """Those that save power; none where all do."""
    atoms = cpu_list(text_of(root / "sys/devices/cpu_atom/cpus"))
    capacity = {p: number_of(root / _CPUS / f"cpu{p}/cpu_capacity") or 0 for p in processors}
    fastest = max(capacity.values(), default=0)
    slow = frozenset(p for p in processors if p in atoms or capacity[p] < _FAST * fastest)
    return slow if len(slow) < len(processors) else frozenset()


def _caches(root: Path, processor: int, cores: frozenset[int]) -> Iterator[Cache]:
    """The caches of a logical processor; ``cores`` are one such of each core."""
    found = []
    for folder in (root / _CPUS / f"cpu{processor}/cache").glob("index*"):
        level, size = number_of(folder / "level"), text_of(folder / "size")
        if level and text_of(folder / "type") in ("Data", "Unified") and size[:-1].isdecimal():
            shared = cpu_list(text_of(folder / "shared_cpu_list"))
            num_bytes = int(size[:-1]) * _UNITS.get(size[-1], 0)
            found.append(Cache(level, num_bytes, max(1, len(shared & cores))))
    yield from sorted(found, key=lambda cache: cache.level)


def _nodes(root: Path, allowed: frozenset[int]) -> Iterator[MemoryNode]:
    """The nodes that have memory, each with those of the allowed processors that are near."""
    numbers = (path.name.removeprefix("node") for path in (root / _NODES).glob("node*"))
    for number in sorted(int(number) for number in numbers if number.isdecimal()):
        folder = root / _NODES / f"node{number}"
        # "Node 0 MemTotal: 24684088 kB"
        lines = (line.split() for line in text_of(folder / "meminfo").splitlines())
        kibibytes = next((int(words[3]) for words in lines if words[2:3] == ["MemTotal:"]), 0)
        if kibibytes:
            yield MemoryNode(number, kibibytes << 10, cpu_list(text_of(folder / "cpulist")) & allowed)


def _chosen(text: str) -> str:
    """The word in brackets of several."""
    return text.partition("[")[2].partition("]")[0]
