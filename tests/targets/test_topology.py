"""Cores, caches and memory, from what systems of several kinds say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from ingot.targets.topology import Cache, Topology, allowed_processors, read_topology

from .trees import write_tree

_CPU = "sys/devices/system/cpu/cpu{}/"


def cores(root: Path, siblings: Iterable[str], capacities: Iterable[int] = ()) -> None:
    """Processors by the threads of their cores, and how fast they are."""
    for number, text in enumerate(siblings):
        write_tree(root, {_CPU.format(number) + "topology/thread_siblings_list": f"{text}\n"})
    for number, capacity in enumerate(capacities):
        write_tree(root, {_CPU.format(number) + "cpu_capacity": f"{capacity}\n"})


def cache(processor: int, index: int, level: int, kind: str, size: str, shared: str) -> dict[str, str]:
    folder = _CPU.format(processor) + f"cache/index{index}/"
    values = {"level": level, "type": kind, "size": size, "shared_cpu_list": shared}
    return {folder + name: f"{value}\n" for name, value in values.items()}


def topology(root: Path, allowed: Iterable[int]) -> Topology:
    return read_topology(root, frozenset(allowed))


def test_nothing_told_is_one_core_for_each_processor(tmp_path: Path) -> None:
    found = topology(tmp_path, range(3))
    assert (found.num_cores, found.num_physical_cores, found.num_allowed) == (3, 3, 3)
    assert (found.caches, found.nodes, found.quota, found.huge_pages) == ((), (), None, "")
    assert Topology().num_cores == 1


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    cores(tmp_path, ["0,4", "1,5", "2,6", "3,7", "0,4", "1,5"])
    found = topology(tmp_path, [0, 1, 2, 3, 5])
    assert (found.num_cores, found.num_physical_cores, found.num_allowed) == (4, 4, 5)


def test_slow_cores_wait_for_nobody(tmp_path: Path) -> None:
    """Two fast cores of two threads and four slow ones, told by a list of the slow ones."""
    cores(tmp_path, ["0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7"])
    write_tree(tmp_path, {"sys/devices/cpu_atom/cpus": "4-7\n"})
    found = topology(tmp_path, range(8))
    assert (found.num_cores, found.num_physical_cores, found.num_slow_cores) == (2, 6, 4)
    assert topology(tmp_path, [4, 5, 6]).num_cores == 3


@pytest.mark.parametrize(
    ("capacities", "expected"),
    [([446, 446, 446, 446, 1024, 1024], 2), ([250, 250, 800, 800, 800, 1024], 4), ([1024] * 6, 6)],
)
def test_slow_cores_by_their_capacity(tmp_path: Path, capacities: list[int], expected: int) -> None:
    cores(tmp_path, [], capacities)
    assert topology(tmp_path, range(6)).num_cores == expected


def test_caches_of_the_first_fast_core(tmp_path: Path) -> None:
    cores(tmp_path, ["0", "1-2", "1-2", "3"], [400, 1024, 1024, 1024])
    write_tree(
        tmp_path,
        {
            **cache(0, 0, 1, "Data", "32K", "0"),
            **cache(1, 0, 1, "Data", "48K", "1-2"),
            **cache(1, 1, 1, "Instruction", "32K", "1-2"),
            **cache(1, 3, 3, "Unified", "33792K", "0-3"),
            **cache(1, 2, 2, "Unified", "2M", "1-2"),
            **cache(1, 4, 4, "Unified", "plenty", "0-3"),
        },
    )
    expected = (Cache(1, 48 << 10, 1), Cache(2, 2 << 20, 1), Cache(3, 33 << 20, 3))
    assert topology(tmp_path, range(4)).caches == expected
    assert topology(tmp_path, [1, 2]).caches[-1].num_cores == 1


def test_memory_by_nodes_and_huge_pages(tmp_path: Path) -> None:
    node = "sys/devices/system/node/node{}/"
    for number, size in ((0, 1024), (2, 2048), (10, 0)):
        folder = node.format(number)
        text = f"Node {number} MemTotal:       {size} kB\nNode {number} MemFree: 1 kB\n"
        write_tree(tmp_path, {folder + "meminfo": text, folder + "cpulist": f"{number}-{number + 1}\n"})
    write_tree(tmp_path, {"sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n"})
    found = topology(tmp_path, [0, 1, 2])
    assert [(n.number, n.num_bytes, n.processors) for n in found.nodes] == [
        (0, 1 << 20, {0, 1}),
        (2, 2 << 20, {2}),
    ]
    assert found.huge_pages == "madvise"


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max", 8), ("200000", 2), ("150000", 2), ("50000", 1), ("9900000", 8), ("", 8), ("1 0", 8)],
)
def test_a_quota_leaves_no_more_than_it_has_time_for(tmp_path: Path, quota: str, expected: int) -> None:
    write_tree(tmp_path, {"sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})
    assert topology(tmp_path, range(8)).num_cores == expected


def test_the_tightest_group_counts(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "1:name=systemd:/old\n0::/pod.slice/ingot\n",
            "sys/fs/cgroup/pod.slice/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/pod.slice/ingot/cpu.max": "max 100000\n",
        },
    )
    assert topology(tmp_path, range(8)).num_cores == 3


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("200000", 2)])
@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_a_quota_of_version_1(tmp_path: Path, mount: str, quota: str, expected: int) -> None:
    folder = f"sys/fs/cgroup/{mount}/docker/4f/"
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": f"4:{mount}:/docker/4f\n0::/\n",
            folder + "cpu.cfs_quota_us": f"{quota}\n",
            folder + "cpu.cfs_period_us": "100000\n",
        },
    )
    assert topology(tmp_path, range(8)).num_cores == expected


def test_a_container_that_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/docker/4f\n5:cpuset:/docker/4f\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpuset/cpuset.cpus": "2-5\n",
            "proc/self/status": "Name:\tpython\nCpus_allowed:\t0f\nCpus_allowed_list:\t0-3\n",
        },
    )
    allowed = allowed_processors(tmp_path)
    assert allowed == {2, 3}
    assert read_topology(tmp_path, allowed).num_cores == 1


@pytest.mark.parametrize(
    ("affinity", "group", "expected"),
    [
        ("0-3,8", "", {0, 1, 2, 3, 8}),
        ("", "4-5", {4, 5}),
        ("0-1", "6", {0, 1}),
        ("", "", set()),
        ("x-y", "", set()),
    ],
)
def test_processors_that_are_allowed(tmp_path: Path, affinity: str, group: str, expected: set[int]) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/status": f"Cpus_allowed_list:\t{affinity}\n",
            "sys/fs/cgroup/cpuset.cpus.effective": f"{group}\n",
        },
    )
    assert allowed_processors(tmp_path) == expected
