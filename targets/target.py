"""Targets: what an artifact's machine code is for.

A target is written ``KIND`` or ``KIND:NAME``: ``cpu`` is this host, ``cpu:x86-64-v3`` any x86-64 with AVX2,
``cpu:aarch64`` 64-bit Arm with dot products, ``cuda:sm_90`` GPUs (:mod:`.cuda`), ``metal`` those of Macs
(:mod:`.metal`). To add a CPU, add an entry to ``CPUS``; the features it requires decide where it may be
loaded, the instruction set which kernels it gets. What LLVM may use for its ``cpu`` and ``attributes`` must
be among the features: a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.errors import CompileError
from .cuda import CudaTarget, parse_cuda
from .host import Host, detect_host
from .metal import MetalTarget, parse_metal

__all__ = ["CPUS", "AnyTarget", "Caches", "Target", "parse_target", "parse_targets", "supported_targets"]


@dataclass(frozen=True, slots=True)
class Caches:
    """Bytes that each core has of the first level's cache for data, and of the second level's.

    Of several kinds of machines that a target is for, the least that is common: what fits there fits all.
    """

    l1d_bytes: int
    l2_bytes: int


@dataclass(frozen=True, slots=True)
class Target:
    """One machine to build for.

    ``triple``, ``cpu`` and ``attributes`` are LLVM's; ``features`` are those the host must have, in the
    spelling of Linux' ``/proc/cpuinfo``; ``isa`` names the kernels' instruction set; ``rank`` orders
    targets that all fit a host, the highest being taken; kernels are cut to the size of ``caches``.
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
    caches: Caches

    @property
    def library_name(self) -> str:
        """The file name of its machine code in an artifact."""
        suffix = "dylib" if self.system == "Darwin" else "so"
        return f"{self.name.replace(':', '-')}.{suffix}"

    def runs_on(self, host: Host) -> bool:
        """Whether ``host`` has the system, the machine and all the features this target's code uses."""
        return (host.system, host.machine) == (self.system, self.machine) and self.features <= host.features

    @property
    def may_be_refused(self) -> bool:
        """Whether a system can refuse features to one process that it grants to another, as for AMX."""
        return any(feature.startswith("amx_") for feature in self.features)


def _features(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KIB, _MIB = 1 << 10, 1 << 20

# As in the x86-64 ABI's micro-architecture levels, without what each level takes from the one before.
_V3 = _features("abm avx avx2 bmi1 bmi2 cx16 f16c fma lahf_lm movbe pni popcnt sse4_1 sse4_2 ssse3 xsave")
_V4_VNNI = _V3 | _features("avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni")
_ICELAKE = _V4_VNNI | _features(
    "avx512vbmi avx512_vbmi2 avx512ifma avx512_bitalg avx512_vpopcntdq gfni vaes vpclmulqdq"
)
_SAPPHIRERAPIDS = _ICELAKE | _features("avx512_bf16 amx_tile amx_int8 amx_bf16")
_V82 = _features("asimd asimddp asimdhp asimdrdm atomics crc32 fphp")
_I8MM = _V82 | {"i8mm", "bf16"}

_X86 = "x86_64-unknown-linux-gnu"
_ARM = "aarch64-unknown-linux-gnu"
_APPLE = "arm64-apple-macos"
_WIDE = "-prefer-256-bit"
_ARM_ATTRIBUTES = ("+v8.2a", "+dotprod", "+fullfp16")


def _x86(
    name: str,
    cpu: str,
    features: frozenset[str],
    isa: str,
    rank: int,
    caches: Caches,
    attributes: tuple[str, ...] = (),
) -> Target:
    return Target(f"cpu:{name}", "Linux", "x86_64", _X86, cpu, attributes, features, isa, rank, caches)


def _arm(
    name: str, features: frozenset[str], isa: str, rank: int, caches: Caches, attributes: tuple[str, ...]
) -> Target:
    triple, cpu = _ARM, "generic"
    return Target(f"cpu:{name}", "Linux", "aarch64", triple, cpu, attributes, features, isa, rank, caches)


def _apple(name: str, features: frozenset[str], isa: str, rank: int, caches: Caches) -> Target:
    return Target(f"cpu:{name}", "Darwin", "arm64", _APPLE, name, (), features, isa, rank, caches)


CPUS: dict[str, Target] = {
    target.name.removeprefix("cpu:"): target
    for target in (
        # Haswell and Zen on.
        _x86("x86-64-v3", "x86-64-v3", _V3, "avx2", 1, Caches(32 * _KIB, 256 * _KIB)),
        # Alder Lake and what came after it without AVX-512.
        _x86(
            "x86-64-v3-vnni",
            "x86-64-v3",
            _V3 | {"avx_vnni"},
            "avx2-vnni",
            2,
            Caches(32 * _KIB, 512 * _KIB),
            ("+avxvnni",),
        ),
        # Cascade Lake.
        _x86(
            "x86-64-v4-vnni",
            "x86-64-v4",
            _V4_VNNI,
            "avx512-vnni",
            3,
            Caches(32 * _KIB, 1 * _MIB),
            ("+avx512vnni", _WIDE),
        ),
        _x86(
            "icelake-server",
            "icelake-server",
            _ICELAKE,
            "avx512-vnni",
            4,
            Caches(48 * _KIB, 1280 * _KIB),
            (_WIDE,),
        ),
        # Sapphire Rapids and later where there is no leave to use AMX; any other with both.
        _x86(
            "x86-64-v4-bf16",
            "icelake-server",
            _ICELAKE | {"avx512_bf16"},
            "avx512-bf16",
            5,
            Caches(32 * _KIB, 1 * _MIB),
            ("+avx512bf16", _WIDE),
        ),
        _x86(
            "znver4",
            "znver4",
            _ICELAKE | {"avx512_bf16", "clzero", "sse4a"},
            "avx512-bf16",
            6,
            Caches(32 * _KIB, 1 * _MIB),
            (_WIDE,),
        ),
        _x86(
            "sapphirerapids",
            "sapphirerapids",
            _SAPPHIRERAPIDS,
            "avx512-amx",
            7,
            Caches(48 * _KIB, 2 * _MIB),
            ("-avx512fp16", "-avxvnni", _WIDE),  # of no use beside the others, and not everywhere shown
        ),
        # Cortex-A76, Neoverse N1 on.
        _arm("aarch64", _V82, "neon-dotprod", 1, Caches(64 * _KIB, 512 * _KIB), _ARM_ATTRIBUTES),
        # Neoverse V1 and N2 on.
        _arm(
            "aarch64-i8mm",
            _I8MM,
            "neon-i8mm",
            2,
            Caches(64 * _KIB, 1 * _MIB),
            (*_ARM_ATTRIBUTES, "+i8mm", "+bf16"),
        ),
        # Four fast cores share the second level.
        _apple("apple-m1", _V82, "neon-dotprod", 1, Caches(128 * _KIB, 3 * _MIB)),
        _apple("apple-m2", _I8MM, "neon-i8mm", 2, Caches(128 * _KIB, 4 * _MIB)),
    )
}
"""Every CPU target by the name after ``cpu:``."""

AnyTarget = Target | CudaTarget | MetalTarget
"""What can be built for."""


def supported_targets(host: Host) -> tuple[Target, ...]:
    """The targets whose code ``host`` can run, best first."""
    return tuple(sorted((t for t in CPUS.values() if t.runs_on(host)), key=lambda t: -t.rank))


def parse_target(text: str, host: Host | None = None) -> Target:
    """The CPU target written ``text``; ``cpu`` is the best for ``host`` (this one unless given).

    Raises :class:`CompileError` listing what there is.
    """
    kind, _, name = text.partition(":")
    if kind != "cpu":
        raise CompileError(
            f"no target '{text}'; write cpu, cpu:NAME with one of {', '.join(CPUS)}, cuda:NAME, or metal"
        )
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


def parse_targets(text: str, host: Host | None = None) -> tuple[AnyTarget, ...]:
    """What is built for a target written ``text``: itself, and for ``cpu`` also what runs where a system
    refuses part of it; ``cuda`` is this machine's GPU, and ``metal`` any Mac's.

    An artifact made where a process may use AMX is taken to a container where none may, and must run there.
    Raises :class:`CompileError` as :func:`parse_target` does.
    """
    kind, _, name = text.partition(":")
    if kind == "cuda":
        return (parse_cuda(name),)
    if kind == "metal":
        return (parse_metal(name),)
    target = parse_target(text, host)
    if text not in ("cpu", "cpu:") or not target.may_be_refused:
        return (target,)
    fitting = supported_targets(host or detect_host())
    return (target, *[other for other in fitting if not other.may_be_refused][:1])
