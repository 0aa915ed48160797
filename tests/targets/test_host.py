"""What this machine is, read from what its system says."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingot.ir.errors import CompileError, IngotError
from ingot.targets import Host, available_memory_bytes, detect_host, parse_target, parse_targets, read_host
from ingot.targets import host as host_module
from ingot.targets.features import RegisterStates
from ingot.targets.threads import use_all_cores

from .trees import write_tree

V3 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 xsave abm avx avx2 bmi1 bmi2 f16c fma movbe"
AVX512 = "avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni"
ICELAKE = "avx512vbmi avx512_vbmi2 avx512ifma avx512_bitalg avx512_vpopcntdq gfni vaes vpclmulqdq"
AMX = "amx_bf16 amx_tile amx_int8"
XEON = "Intel(R) Xeon(R) Platinum 8488C"


def cpuinfo(name: str, *flags: str) -> str:
    """Two processors of a kind, as x86-64 has them."""
    block = "processor\t: {}\nmodel name\t: {}\nflags\t\t: fpu {}\nvmx flags\t: vnmi\nbogomips\t: 4800.00\n"
    return "\n".join(block.format(number, name, " ".join(flags)) for number in range(2))


SAPPHIRE = cpuinfo(XEON, V3, AVX512, ICELAKE, AMX, "avx512_bf16 avx512_fp16 avx_vnni")
ICE = cpuinfo(XEON, V3, AVX512, ICELAKE)
ALDER = cpuinfo("12th Gen Intel(R) Core(TM) i7", V3, "avx_vnni")
SKYLAKE = cpuinfo(XEON, V3, AVX512.replace("avx512_vnni", ""))
ZEN = cpuinfo("AMD EPYC 9R14", V3, AVX512, ICELAKE, "avx512_bf16 clzero sse4a")
OLD_INTEL = "processor : 0\nmodel name : Intel(R) Core(TM) i7-2600\nflags : fpu sse2 avx\n"
ARM = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
"""
GRAVITON3 = ARM.replace("asimddp", "asimddp sve i8mm svebf16 bf16")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """The host is looked at once; here each test looks again, and so does whoever comes after."""
    detect_host.cache_clear()
    yield
    detect_host.cache_clear()


def states(supported: int | None = None, *, tiles: bool = True) -> RegisterStates:
    return RegisterStates(supported, lambda: tiles)


def host_of(tmp_path: Path, machine: str, text: str, kept: RegisterStates | None = None) -> Host:
    write_tree(tmp_path, {"proc/cpuinfo": text, "proc/self/status": "Cpus_allowed_list:\t0-1\n"})
    return read_host(machine, kept or (states() if machine == "x86_64" else None), root=tmp_path)


@pytest.mark.parametrize(
    ("machine", "text", "cpu", "target"),
    [
        ("x86_64", SAPPHIRE, XEON, "cpu:sapphirerapids"),
        ("x86_64", ICE, XEON, "cpu:icelake-server"),
        ("x86_64", ICE.replace("gfni", ""), XEON, "cpu:x86-64-v4-vnni"),
        ("x86_64", SKYLAKE, XEON, "cpu:x86-64-v3"),
        ("x86_64", ALDER, "12th Gen Intel(R) Core(TM) i7", "cpu:x86-64-v3-vnni"),
        ("x86_64", ZEN, "AMD EPYC 9R14", "cpu:znver4"),
        ("aarch64", ARM, "aarch64", "cpu:aarch64"),
        ("aarch64", GRAVITON3, "aarch64", "cpu:aarch64-i8mm"),
    ],
)
def test_processors(tmp_path: Path, machine: str, text: str, cpu: str, target: str) -> None:
    host = host_of(tmp_path, machine, text)
    assert (host.system, host.machine, host.cpu) == ("Linux", machine, cpu)
    assert "vnmi" not in host.features
    assert parse_target("cpu", host).name == target


@pytest.mark.parametrize("text", [OLD_INTEL, "", "no colon in sight\n: nothing\n"])
def test_processors_that_nothing_is_built_for(tmp_path: Path, text: str) -> None:
    host = host_of(tmp_path, "x86_64", text)
    assert host.cpu
    with pytest.raises(CompileError, match="none of the instruction sets"):
        parse_target("cpu", host)


def test_only_what_all_processors_have_is_a_feature(tmp_path: Path) -> None:
    """A thread may move from one to another; those that it may not move to do not count."""
    lesser = ICE + "\n" + ALDER.replace("processor\t: 0", "processor\t: 7").partition("\n\n")[0]
    assert parse_target("cpu", host_of(tmp_path, "x86_64", lesser)).name == "cpu:icelake-server"
    write_tree(tmp_path, {"proc/self/status": "Cpus_allowed_list:\t0,7\n"})
    assert parse_target("cpu", read_host("x86_64", states(), root=tmp_path)).name == "cpu:x86-64-v3"


@pytest.mark.parametrize(
    ("kept", "built", "reason"),
    [
        (states(), ["cpu:sapphirerapids", "cpu:x86-64-v4-bf16"], None),
        (states(0xE7 | 3 << 17), ["cpu:sapphirerapids", "cpu:x86-64-v4-bf16"], None),
        (states(tiles=False), ["cpu:x86-64-v4-bf16"], "does not let this process use AMX"),
        (states(0xE7), ["cpu:x86-64-v4-bf16"], "does not keep its registers"),
        (states(0x7), ["cpu:x86-64-v3-vnni"], "does not keep its registers"),
    ],
)
def test_what_the_system_keeps_from_a_process(
    tmp_path: Path, kept: RegisterStates, built: list[str], reason: str | None
) -> None:
    host = host_of(tmp_path, "x86_64", SAPPHIRE, kept)
    assert [target.name for target in parse_targets("cpu", host)] == built
    assert [t.name for t in parse_targets("cpu:sapphirerapids", host)] == ["cpu:sapphirerapids"]
    reasons = {withheld.reason for withheld in host.withheld if withheld.feature == "amx_int8"}
    assert (reason in str(reasons)) if reason else not reasons
    assert ("amx_int8" in host.lacking(["amx_int8", "avx2"])) == (reason is not None)


def test_tiles_are_not_asked_for_where_there_are_none(tmp_path: Path) -> None:
    def refuse() -> bool:
        raise AssertionError("asked")

    assert host_of(tmp_path, "x86_64", ZEN, RegisterStates(None, refuse)).features


@pytest.mark.parametrize(
    ("left_out", "target"),
    [
        ("", "cpu:sapphirerapids"),
        (" -amx_int8 , ", "cpu:x86-64-v4-bf16"),
        ("-amx_tile", "cpu:x86-64-v4-bf16"),
        ("-avx512_bf16", "cpu:icelake-server"),
        ("-avx512f", "cpu:x86-64-v3-vnni"),
        ("-avx512f,-avx_vnni", "cpu:x86-64-v3"),
        ("-no_such", "cpu:sapphirerapids"),
    ],
)
def test_features_can_be_left_out(tmp_path: Path, left_out: str, target: str) -> None:
    write_tree(tmp_path, {"proc/cpuinfo": SAPPHIRE, "proc/self/status": "Cpus_allowed_list:\t0-1\n"})
    host = read_host("x86_64", states(), root=tmp_path, left_out=left_out)
    assert parse_target("cpu", host).name == target
    assert not {feature for feature in host.features if f"-{feature}" in left_out.split(",")}
    assert "avx512f" not in left_out or not any(f.startswith(("avx512", "amx")) for f in host.features)


@pytest.mark.parametrize("added", ["avx512f", "+amx_int8", "-", "-avx512f,fma", "-avx512f -fma"])
def test_features_cannot_be_added(added: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_CPU_FEATURES", added)
    if platform.system() in ("Linux", "Darwin"):
        with pytest.raises(IngotError, match=r"INGOT_CPU_FEATURES has .* can only be left out"):
            detect_host()


def test_what_is_lacking_is_said_in_few_words(tmp_path: Path) -> None:
    host = host_of(tmp_path, "x86_64", ALDER)
    assert host.lacking(["avx2"]) == ""
    assert host.lacking(["avx512f", "avx2"]) == "avx512f"
    assert host.lacking("abcdef") == "a, b, c and 3 more"
    lesser = read_host("x86_64", states(), root=tmp_path, left_out="-avx_vnni")
    assert lesser.lacking(["avx_vnni", "gfni"]) == "avx_vnni, gfni (left out by INGOT_CPU_FEATURES)"


def test_memory_is_within_a_containers_limit(tmp_path: Path) -> None:
    write_tree(tmp_path, {"proc/meminfo": "MemTotal:  3072 kB\n", "sys/fs/cgroup/memory.max": "max\n"})
    assert read_host("x86_64", states(), root=tmp_path).memory_bytes == 3 << 20
    write_tree(tmp_path, {"sys/fs/cgroup/memory.max": "1048576\n"})
    assert read_host("x86_64", states(), root=tmp_path).memory_bytes == 1 << 20


def test_memory_that_can_be_had_is_what_system_and_container_leave(tmp_path: Path) -> None:
    assert available_memory_bytes(tmp_path) == detect_host().memory_bytes
    write_tree(tmp_path, {"proc/meminfo": "MemTotal: 900 kB\nMemFree: 100 kB\nMemAvailable: 500 kB\n"})
    assert available_memory_bytes(tmp_path) == 500 * 1024
    group = {
        "memory.max": "400000\n",
        "memory.current": "300000\n",
        "memory.stat": "anon 200000\ninactive_file 60000\nactive_file 40000\nshmem 1\n",
    }
    write_tree(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in group.items()})
    assert available_memory_bytes(tmp_path) == 400_000 - 300_000 + 100_000
    write_tree(
        tmp_path,
        {"sys/fs/cgroup/memory.current": "900000\n", "sys/fs/cgroup/memory.stat": "anon 900000\n"},
    )
    assert available_memory_bytes(tmp_path) == 0


M1 = {"machdep.cpu.brand_string": "Apple M1"}
M2 = {
    "machdep.cpu.brand_string": "Apple M2 Pro",
    "hw.physicalcpu": "12",
    "hw.perflevel0.physicalcpu": "8",
    "hw.perflevel0.cpusperl2": "4",
    "hw.perflevel0.l2cachesize": "16777216",
    "hw.optional.arm.FEAT_I8MM": "1",
    "hw.optional.arm.FEAT_BF16": "1",
}


@pytest.mark.parametrize(
    ("told", "cores", "target"), [(M1, os.cpu_count(), "cpu:apple-m1"), (M2, 8, "cpu:apple-m2")]
)
def test_apple_silicon(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], cores: int, target: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(host_module, "_sysctl_text", lambda name: told.get(name, ""))
    host = detect_host()
    assert (host.cpu, host.num_cores) == (told["machdep.cpu.brand_string"], cores)
    assert parse_target("cpu", host).name == target


def test_another_system_still_has_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "FreeBSD")
    assert detect_host().features == frozenset()


def test_this_machine() -> None:
    host = detect_host()
    assert host.system == platform.system()
    assert 1 <= host.num_cores <= (os.cpu_count() or 1)
    assert host.memory_bytes > 2**28


@pytest.mark.parametrize(("said", "expected"), [(None, None), ("3", 3), ("nonsense", 1), ("0", 1)])
def test_threads(monkeypatch: pytest.MonkeyPatch, said: str | None, expected: int | None) -> None:
    """All cores, unless the environment says otherwise; nothing is pinned."""
    environment = {} if said is None else {"TVM_NUM_THREADS": said}
    monkeypatch.setattr(os, "environ", environment)
    assert use_all_cores() == (detect_host().num_cores if expected is None else expected)
    assert environment["TVM_BIND_THREADS"] == "0"
    assert environment["TVM_NUM_THREADS"] == (str(detect_host().num_cores) if said is None else said)
