"""Where kernels run: this machine's instruction sets, and others in emulators.

64-bit Arm needs a whole machine's emulator. Of x86-64 it may be single instructions that this machine lacks.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import tvm
from ingot.codegen.kernels.isa import Isa, isa_of
from ingot.codegen.library import llvm_target
from ingot.codegen.link import export_executable
from ingot.targets import CPUS, Target, detect_host
from tvm import tirx
from tvm_ffi import StructuralKey

from ...emulator.emulator import EMULATED_FEATURES, Emulator, find_emulator

__all__ = ["MACHINES", "Array", "Kernel", "Machine", "filled", "find_machine"]

Array: TypeAlias = npt.NDArray[np.generic]
Kernel: TypeAlias = Callable[..., None]
"""Takes the kernel's arrays, which it writes to where the kernel does."""

_GUARD = 256
_GUARD_BYTE = 0xA5
_SYSROOT = "/usr/aarch64-linux-gnu"
_CODES = {"i": 0, "u": 1, "f": 2}

MACHINES = ("x86-64-v3", "x86-64-v4-vnni", "aarch64")
"""Targets with kernels of their own: one for each instruction set."""


def filled(shape: tuple[int, ...], dtype: str) -> Array:
    """An array to write results to, of bytes that are no likely result (NaN where floats)."""
    array = np.empty(shape, dtype)
    array.reshape(-1).view(np.uint8)[:] = 0xFF
    return array


class Machine(Protocol):
    """Builds kernels called ``kernel`` and runs them."""

    @property
    def isa(self) -> Isa:
        """What the kernels are generated for."""

    def build(self, function: tirx.PrimFunc) -> Kernel:
        """The kernel, ready to be called; a write past an array's end is an error."""


def find_machine(name: str) -> Machine | str:
    """The machine of a target, or why there is none."""
    target = CPUS[name]
    if target.runs_on(detect_host()):
        return _Native(target)
    if target.machine == "x86_64":
        return _partly_emulated(target)
    if target.machine != "aarch64":
        return f"this host does not run {target.name}"
    missing = [tool for tool in ("qemu-aarch64", "aarch64-linux-gnu-gcc") if shutil.which(tool) is None]
    return f"needs {' and '.join(missing)}" if missing else _emulated(target)


def _partly_emulated(target: Target) -> _Native | str:
    if not target.features - detect_host().features <= EMULATED_FEATURES:
        return f"this host does not run {target.name}"
    emulator = find_emulator()
    return emulator if isinstance(emulator, str) else _Native(target, emulator)


def _compile(function: tirx.PrimFunc, target: Target) -> tvm.runtime.Executable:
    return tvm.compile(tvm.IRModule({"kernel": function}), target=llvm_target(target))


class _Native:
    """This machine, with instructions emulated that it lacks."""

    def __init__(self, target: Target, emulator: Emulator | None = None) -> None:
        self._target, self._emulator = target, emulator
        self.isa = isa_of(target)
        self._built: dict[StructuralKey, tvm.runtime.PackedFunc] = {}

    def build(self, function: tirx.PrimFunc) -> Kernel:
        """See :class:`Machine`. What several tests ask for is compiled once."""
        key = StructuralKey(function)
        if key not in self._built:
            self._built[key] = _compile(function, self._target)["kernel"]
        compiled = self._built[key]

        def run(*arrays: Array) -> None:
            guarded = [_Guarded(array) for array in arrays]
            with self._emulator or nullcontext():
                compiled(*(tvm.runtime.from_dlpack(copy.array) for copy in guarded))
            for index, (array, copy) in enumerate(zip(arrays, guarded, strict=True)):
                assert copy.is_whole(), f"the kernel wrote past the end of argument {index}"
                array[...] = copy.array

        return run


class _Guarded:
    """A copy of an array, aligned, with bytes behind it that must stay."""

    def __init__(self, array: Array) -> None:
        size = array.nbytes
        memory = np.full(64 + size + _GUARD, _GUARD_BYTE, np.uint8)
        start = -memory.ctypes.data % 64
        self._behind = memory[start + size :]
        self.array = memory[start : start + size].view(array.dtype).reshape(array.shape)
        self.array[...] = array

    def is_whole(self) -> bool:
        return bool((self._behind == _GUARD_BYTE).all())


class _Emulated:
    """64-bit Arm under qemu: code for it, linked here, loaded by ``caller.c``."""

    def __init__(self, target: Target) -> None:
        import tempfile

        self._target = target
        self.isa = isa_of(target)
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name)
        self._num_kernels = 0
        source = Path(__file__).with_name("caller.c")
        compiler = [
            "aarch64-linux-gnu-gcc",
            "-O1",
            "-rdynamic",
            "-w",
            source,
            "-o",
            self._path / "caller",
            "-ldl",
        ]
        subprocess.run(compiler, check=True)
        self._process: subprocess.Popen[bytes] | None = None

    def build(self, function: tirx.PrimFunc) -> Kernel:
        """See :class:`Machine`."""
        self._num_kernels += 1
        library = self._path / f"{self._num_kernels}.so"
        export_executable(_compile(function, self._target), library, self._target.triple)
        return lambda *arrays: self._call(library, arrays)

    def _call(self, library: Path, arrays: tuple[Array, ...]) -> None:
        if self._process is None or self._process.poll() is not None:
            command = ["qemu-aarch64", "-L", _SYSROOT, str(self._path / "caller")]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None
        assert source is not None
        path = str(library).encode()
        sink.write(struct.pack("<q", len(path)) + path + struct.pack("<q", len(arrays)))
        for array in arrays:
            dtype = array.dtype
            numbers = (_CODES[dtype.kind], 8 * dtype.itemsize, array.ndim, *array.shape, array.nbytes)
            sink.write(struct.pack(f"<{len(numbers)}q", *numbers) + np.ascontiguousarray(array).tobytes())
        sink.flush()
        answer = source.read(8)
        assert len(answer) == 8, f"the kernel ended the emulator with status {self._process.wait()}"
        (status,) = struct.unpack("<q", answer)
        assert status < 100, f"the kernel wrote past the end of argument {status - 100}"
        assert status == 0, f"the kernel returned {status}"
        for array in arrays:
            array[...] = np.frombuffer(source.read(array.nbytes), array.dtype).reshape(array.shape)


_emulated = cache(_Emulated)
