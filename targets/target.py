"""Targets: what an artifact's machine code is for.

A target is written ``KIND`` or ``KIND:NAME``: ``cpu`` is this host, ``cpu:x86-64-v3`` any x86-64 with AVX2,
``cpu:aarch64`` 64-bit Arm with dot products. To add a CPU, add an entry to ``CPUS``; the features it
requires decide where it may be loaded, the instruction set which kernels it gets.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.errors import CompileError
from .host import Host, detect_host

__all__ = ["CPUS", "Target", "parse_target", "supported_targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """One machine to build for.

    ``triple``, ``cpu`` and ``attributes`` are LLVM's; ``features`` are those the host must have, in the
    spelling of Linux' ``/proc/cpuinfo``; ``isa`` names the kernels' instruction set; ``rank`` orders
    targets that all fit a host, the highest being taken.
    """

    name: str
    system: str
    machine: str
    triple: str
    cpu: str
    attributes: tuple[str, ...]
    features: frozenset[str]
    isa: str
    rank: int

    @property
    def library_name(self) -> str:
        """The file name of its machine code in an artifact."""
        suffix = "dylib" if self.system == "Darwin" else "so"
        return f"{self.name.replace(':', '-')}.{suffix}"

    def runs_on(self, host: Host) -> bool:
        """Whether ``host`` has the system, the machine and all the features this target's code uses."""
        return (host.system, host.machine) == (self.system, self.machine) and self.features <= host.features


_V3 = frozenset({"avx2", "fma", "f16c", "bmi1", "bmi2", "movbe"})
_V4_VNNI = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"}
_X86 = "x86_64-unknown-linux-gnu"
_ARM = "aarch64-unknown-linux-gnu"
_WIDE = ("-prefer-256-bit",)


def _x86(
    name: str, cpu: str, features: frozenset[str], isa: str, rank: int, attributes: tuple[str, ...] = ()
) -> Target:
    return Target(f"cpu:{name}", "Linux", "x86_64", _X86, cpu, attributes, features, isa, rank)


CPUS: dict[str, Target] = {
    target.name.removeprefix("cpu:"): target
    for target in (
        _x86("x86-64-v3", "x86-64-v3", _V3, "avx2", 1),
        _x86("x86-64-v4-vnni", "x86-64-v4", _V4_VNNI, "avx512-vnni", 2, ("+avx512vnni", *_WIDE)),
        _x86("icelake-server", "icelake-server", _V4_VNNI | {"avx512vbmi"}, "avx512-vnni", 3, _WIDE),
        _x86(
            "sapphirerapids",
            "sapphirerapids",
            _V4_VNNI | {"amx_int8", "avx512_bf16"},
            "avx512-vnni",
            4,
            _WIDE,
        ),
        _x86(
            "znver4",
            "znver4",
            _V4_VNNI | {"avx512_bf16", "avx512vbmi", "gfni", "clzero"},
            "avx512-vnni",
            4,
            _WIDE,
        ),
        Target(
            "cpu:aarch64",
            "Linux",
            "aarch64",
            _ARM,
            "generic",
            ("+v8.2a", "+dotprod", "+fullfp16"),
            frozenset({"asimd", "asimddp", "fphp"}),
            "neon-dotprod",
            1,
        ),
        Target(
            "cpu:apple-m1",
            "Darwin",
            "arm64",
            "arm64-apple-macos",
            "apple-m1",
            (),
            frozenset({"asimd", "asimddp", "fphp"}),
            "neon-dotprod",
            1,
        ),
    )
}
"""Every CPU target by the name after ``cpu:``."""

_UNNAMED_KINDS = {"cuda": "CUDA", "metal": "Metal"}


def supported_targets(host: Host) -> tuple[Target, ...]:
    """The targets whose code ``host`` can run, best first."""
    return tuple(sorted((t for t in CPUS.values() if t.runs_on(host)), key=lambda t: -t.rank))


def parse_target(text: str, host: Host | None = None) -> Target:
    """The target written ``text``; ``cpu`` is the best for ``host`` (this one unless given).

    Raises :class:`CompileError` listing what there is.
    """
    kind, _, name = text.partition(":")
    if kind in _UNNAMED_KINDS:
        raise CompileError(
            f"target '{text}': {_UNNAMED_KINDS[kind]} cannot be built for yet; CPU targets can"
        )
    if kind != "cpu":
        raise CompileError(f"no target '{text}'; write cpu, or cpu:NAME with one of {', '.join(CPUS)}")
    if name:
        if name not in CPUS:
            raise CompileError(f"no target '{text}'; CPUs are {', '.join(CPUS)}")
        return CPUS[name]
    fitting = supported_targets(host or detect_host())
    if not fitting:
        raise CompileError(
            "this host has none of the instruction sets that ingot builds for (AVX2 on x86-64, dot products "
            "on 64-bit Arm); name another target, such as cpu:x86-64-v3, to build for elsewhere"
        )
    return fitting[0]
