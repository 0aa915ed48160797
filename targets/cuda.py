"""NVIDIA GPUs: those of this machine, as the driver shows them, and those to build for."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

from ..ir.errors import CompileError

__all__ = [
    "ARCHITECTURES",
    "DRIVER",
    "CudaGpu",
    "CudaTarget",
    "find_gpus",
    "load_driver",
    "parse_cuda",
    "version_of",
]

DRIVER = "libcuda.so.1"
"""The driver's library, which is all that running takes."""

ARCHITECTURES = {
    "sm_80": "A100, A30",
    "sm_86": "RTX 30, A10, A40",
    "sm_89": "RTX 40, L4, L40",
    "sm_90": "H100, H200",
    "sm_100": "B200",
    "sm_120": "RTX 50",
}
"""What can be built for, with the GPUs that have it; tensor cores of bfloat16 began with the first."""

_MAJOR, _MINOR, _MULTIPROCESSORS = 75, 76, 16


@dataclass(frozen=True, slots=True)
class CudaTarget:
    """GPUs of one architecture, and by PTX newer ones."""

    architecture: str

    @property
    def name(self) -> str:
        """How it is written."""
        return f"cuda:{self.architecture}"

    @property
    def rank(self) -> int:
        """Above those of CPUs, and later architectures above earlier ones."""
        return 1000 + 10 * version_of(self.architecture)[0] + version_of(self.architecture)[1]

    @property
    def library_name(self) -> str:
        """The file name of its launch plan in an artifact."""
        return f"cuda-{self.architecture}.json"


@dataclass(frozen=True, slots=True)
class CudaGpu:
    """A GPU of this machine: its number for the driver, what it is called, and what it has."""

    number: int
    name: str
    architecture: str
    memory_bytes: int
    num_multiprocessors: int

    def runs(self, architecture: str) -> bool:
        """Whether it runs what was built for ``architecture``: for its own, or by PTX for an earlier one."""
        return version_of(architecture) <= version_of(self.architecture)


@cache
def load_driver(path: str) -> ctypes.CDLL | None:
    """The driver, None where there is none, or no GPU that it can use."""
    try:
        driver = ctypes.CDLL(path)
    except OSError:
        return None
    return None if driver.cuInit(0) else driver


def find_gpus() -> tuple[CudaGpu, ...]:
    """The GPUs that the driver shows."""
    driver = load_driver(DRIVER)
    if driver is None:
        return ()
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return tuple(_describe(driver, number) for number in range(count.value))


def _describe(driver: ctypes.CDLL, number: int) -> CudaGpu:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetName(name, 256, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), which, device)
        return value.value

    architecture = f"sm_{attribute(_MAJOR)}{attribute(_MINOR)}"
    return CudaGpu(number, name.value.decode(), architecture, memory.value, attribute(_MULTIPROCESSORS))


def version_of(architecture: str) -> tuple[int, int]:
    """``sm_90`` as (9, 0)."""
    number = int(architecture.removeprefix("sm_"))
    return divmod(number, 10)


def parse_cuda(name: str) -> CudaTarget:
    """The target ``cuda:name``; without a name that of this machine's first GPU.

    Raises :class:`CompileError` listing what there is.
    """
    if name in ARCHITECTURES:
        return CudaTarget(name)
    known = ", ".join(f"{arch} ({gpus})" for arch, gpus in ARCHITECTURES.items())
    if name:
        raise CompileError(f"no target 'cuda:{name}'; architectures are {known}")
    gpus = find_gpus()
    if not gpus:
        raise CompileError(
            f"this machine has no NVIDIA GPU to build for: write cuda:NAME with one of {known}"
        )
    own = version_of(gpus[0].architecture)
    fitting = [arch for arch in ARCHITECTURES if version_of(arch)[0] == own[0] and version_of(arch) <= own]
    if not fitting:
        raise CompileError(
            f"{gpus[0].name} ({gpus[0].architecture}) cannot be built for; architectures are {known}"
        )
    return CudaTarget(fitting[-1])
