"""Limits on memory, in both versions of control groups."""

from __future__ import annotations

from pathlib import Path

from ingot.targets.control_groups import MemoryLimit, memory_limits

from .trees import write_tree


def test_no_groups_no_limits(tmp_path: Path) -> None:
    assert list(memory_limits(tmp_path)) == []


def test_the_limit_of_a_service_within_the_system_counts(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "1:name=systemd:/old\n0::/system.slice/ingot.service\n",
            "sys/fs/cgroup/system.slice/memory.max": "2000000\n",
            "sys/fs/cgroup/system.slice/ingot.service/memory.max": "max\n",
        },
    )
    assert list(memory_limits(tmp_path)) == [MemoryLimit(2_000_000, None, 0)]


def test_version_1(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/"
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/4f\n0::/\n",
            group + "memory.limit_in_bytes": "9223372036854771712\n",
            group + "docker/4f/memory.limit_in_bytes": "5000000\n",
            group + "docker/4f/memory.usage_in_bytes": "4000000\n",
            group + "docker/4f/memory.stat": "active_file 1\ntotal_inactive_file 20\ntotal_active_file 300\n",
        },
    )
    assert list(memory_limits(tmp_path)) == [MemoryLimit(5_000_000, 4_000_000, 320)]
