"""What the control groups of this process let it have: processor time, processors, memory. Both versions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .system_files import cpu_list, number_of, numbers_of_lines, text_of

__all__ = ["MemoryLimit", "cpu_quota", "cpu_set", "memory_limits"]

_MOST_BYTES = 1 << 60
"""Version 1 writes "no limit" as a number beyond this."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A group's limit, what it uses now (None where the system does not tell), and how much of that are
    files, which the system gives up; in bytes.
    """

    num_bytes: int
    used_bytes: int | None
    file_bytes: int


def cpu_quota(root: Path) -> float | None:
    """How many processors' time this process gets at most, by the tightest of its groups; None: no limit."""
    quotas = []
    for folder in _folders(root, ""):
        quota, _, period = text_of(folder / "cpu.max").partition(" ")
        quotas.append((quota, period))
    for folder in _folders(root, "cpu"):
        quotas.append((text_of(folder / "cpu.cfs_quota_us"), text_of(folder / "cpu.cfs_period_us")))
    limits = [int(q) / int(p) for q, p in quotas if q.isdecimal() and p.isdecimal() and int(p)]
    return min(limits, default=None)


def cpu_set(root: Path) -> frozenset[int]:
    """The processors this process's group may use; empty where it does not tell."""
    names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
    folders = [*_folders(root, ""), *_folders(root, "cpuset")]
    return next(
        (cpus for folder in folders for n in names if (cpus := cpu_list(text_of(folder / n)))), frozenset()
    )


def memory_limits(root: Path) -> Iterator[MemoryLimit]:
    """The limits on this process's memory, those of the groups above its own too."""
    for folder in _folders(root, ""):
        limit = number_of(folder / "memory.max")
        if limit is not None:
            files = ("inactive_file", "active_file")
            yield _memory_limit(folder, limit, "memory.current", files)
    for folder in _folders(root, "memory"):
        limit = number_of(folder / "memory.limit_in_bytes")
        if limit is not None and limit < _MOST_BYTES:
            files = ("total_inactive_file", "total_active_file")
            yield _memory_limit(folder, limit, "memory.usage_in_bytes", files)


def _memory_limit(folder: Path, limit: int, used: str, files: tuple[str, ...]) -> MemoryLimit:
    parts = numbers_of_lines(folder / "memory.stat")
    return MemoryLimit(limit, number_of(folder / used), sum(parts.get(name, 0) for name in files))


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's group and of those above it, its own first.

    ``controller`` is one of version 1's, or empty for version 2. In a container the groups above its own are
    not to be seen, and what it sees as the top has its limits.
    """
    group, mounts = Path(), ("", "unified") if not controller else (controller,)
    for line in text_of(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") and (controller or number == "0"):
            group = Path(path.lstrip("/"))
            mounts = (*mounts, controllers)
    for mount in dict.fromkeys(mounts):
        for inside in (group, *group.parents):
            folder = root / "sys/fs/cgroup" / mount / inside
            if folder.is_dir():
                yield folder
