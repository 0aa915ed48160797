"""Machine code for NVIDIA GPUs, made on a machine that may have none: by nvcc, or by NVRTC from a package."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...ir.errors import CompileError

__all__ = ["CudaCode", "build_program", "toolchain"]

_OPTIONS = ("-std=c++17", "--fmad=true")


@dataclass(frozen=True, slots=True)
class CudaCode:
    """A program's machine code for one architecture, and PTX, which drivers compile for newer ones."""

    cubin: bytes
    ptx: bytes


def build_program(source: str, architecture: str) -> CudaCode:
    """Compile a program without includes for ``sm_90`` and the like.

    Raises :class:`CompileError` where there is no compiler, or it refuses.
    """
    if (nvcc := _find_nvcc()) is not None:
        own, later = _features(architecture), architecture.replace("sm", "compute")
        generate = f"-gencode=arch={own.replace('sm', 'compute')},code={own}"
        return CudaCode(
            _run_nvcc(nvcc, source, "-cubin", generate), _run_nvcc(nvcc, source, "-ptx", f"-arch={later}")
        )
    if (library := _find_nvrtc()) is not None:
        return _Nvrtc(library).compile(source, architecture)
    raise CompileError(
        "building for CUDA needs nvcc (on the PATH or in CUDA_HOME) or NVRTC, which "
        "pip install '.[cuda]' in ingot's repository brings"
    )


def toolchain() -> dict[str, str]:
    """Which compiler :func:`build_program` takes, and its version; nothing where there is none."""
    if (nvcc := _find_nvcc()) is not None:
        text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
        return {"nvcc": text.rpartition(" V")[2].split()[0] if " V" in text else "unknown"}
    if (library := _find_nvrtc()) is not None:
        return {"nvrtc": _Nvrtc(library).version}
    return {}


def _features(architecture: str) -> str:
    """An architecture with what no later one has too: Hopper's products of four warps. PTX does without."""
    return f"{architecture}a" if architecture == "sm_90" else architecture


@cache
def _find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc") or (shutil.which("nvcc", path=str(Path(home) / "bin")) if home else None)


@cache
def _find_nvrtc() -> Path | None:
    """NVRTC of a package ``nvidia-cuda-nvrtc``, which lies in ``nvidia/cu13/lib`` or the like."""
    found = importlib.util.find_spec("nvidia")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        libraries = sorted(Path(folder).glob("*/lib/libnvrtc.so.*"))
        if libraries:
            return libraries[-1]
    return None


def _run_nvcc(nvcc: str, source: str, *options: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="ingot-cuda-") as name:
        program, result = Path(name) / "step.cu", Path(name) / "step.out"
        program.write_text(source, encoding="utf-8")
        done = subprocess.run(
            [nvcc, *_OPTIONS, *options, "-o", str(result), str(program)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CompileError(f"nvcc refuses the generated kernels: {_first_error(done.stderr)}")
        return result.read_bytes()


def _first_error(text: str) -> str:
    lines = text.strip().splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "it says nothing")


class _Nvrtc:
    """NVIDIA's compiler as a library."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    @property
    def version(self) -> str:
        """Its version, as 12.9."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def compile(self, source: str, architecture: str) -> CudaCode:
        """See :func:`build_program`."""
        cubin = self._compile(source, _features(architecture), "CUBIN")
        return CudaCode(cubin, self._compile(source, architecture.replace("sm", "compute"), "PTX"))

    def _compile(self, source: str, architecture: str, kind: str) -> bytes:
        program = ctypes.c_void_p()
        self._library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"step.cu", 0, None, None)
        try:
            options = [option.encode() for option in (*_OPTIONS, f"--gpu-architecture={architecture}")]
            given = (ctypes.c_char_p * len(options))(*options)
            if self._library.nvrtcCompileProgram(program, len(options), given):
                log = self._read(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")
                reason = _first_error(log.decode(errors="replace"))
                raise CompileError(f"NVRTC {self.version} refuses the generated kernels: {reason}")
            return self._read(program, f"nvrtcGet{kind}Size", f"nvrtcGet{kind}")
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, size: str, read: str) -> bytes:
        count = ctypes.c_size_t()
        getattr(self._library, size)(program, ctypes.byref(count))
        text = ctypes.create_string_buffer(count.value)
        getattr(self._library, read)(program, text)
        return text.raw[: count.value]
