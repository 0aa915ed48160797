"""NVIDIA GPUs by the driver's API alone (libcuda): nothing of the CUDA toolkit is needed to run.

https://docs.nvidia.com/cuda/cuda-driver-api
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ....ir.errors import ArtifactError, CapacityError
from ....targets import cuda
from ....targets.cuda import CudaGpu, find_gpus, load_driver, version_of
from ....targets.manifest import ArrayRecord, LibraryRecord
from ....targets.sizes import format_size
from ..mapped_arrays import MappedArrays
from .arena import aligned
from .cuda_launch import LaunchWriter
from .device import Function, KernelLaunch
from .uploading import upload

__all__ = ["CudaDevice", "open_gpu"]

_OUT_OF_MEMORY, _NO_BINARY, _BAD_PTX_VERSION = 2, 209, 222
_THREAD_LOCAL_CAPTURE, _NO_TIMING = 1, 2

_MOST_SHARED_BYTES, _SHARED_BYTES_OF_FUNCTION = 97, 8
"""Attributes: of a device what a block can have, and of a function what its blocks may be given."""

_EARLY_ARCHITECTURE, _EARLY_DRIVER = (9, 0), 12030
"""From which on kernels begin before the launch before them has ended, in graphs too."""

_USUAL_SHARED_BYTES = 48 << 10
"""What a block is given of shared memory without having to ask."""


def open_gpu(library: LibraryRecord) -> CudaDevice:
    """The first GPU of this machine that runs a library's kernels."""
    (architecture,) = library.features
    for gpu in find_gpus():
        if gpu.runs(architecture):
            return CudaDevice(gpu)
    raise ArtifactError(f"no GPU of this machine runs what was built for {architecture}")


class CudaDevice:
    """A :class:`~.device.Device`: one GPU, its primary context, and one stream."""

    def __init__(self, gpu: CudaGpu) -> None:
        driver = load_driver(cuda.DRIVER)
        if driver is None:
            raise ArtifactError("there is no NVIDIA driver on this machine, or no GPU that it can use")
        self._driver, self._gpu = driver, gpu
        self._device, self._context, self._stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._pinned: list[ctypes.c_void_p] = []
        self._held: set[int] = set()
        self._lent: dict[int | None, int] = {}
        self._begins_early = False
        self._call("cuDeviceGet", ctypes.byref(self._device), gpu.number)
        shared = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(shared), _MOST_SHARED_BYTES, self._device)
        self._most_shared_bytes = shared.value
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._call("cuCtxSetCurrent", self._context)
        self._call("cuStreamCreate", ctypes.byref(self._stream), 1)
        self._writer = LaunchWriter(self._stream)

    @property
    def name(self) -> str:
        """What it is called."""
        return self._gpu.name

    def enter(self) -> None:
        """Let this thread use the device: a context is current in one thread at a time."""
        self._call("cuCtxSetCurrent", self._context)

    # --- memory

    def allocate(self, num_bytes: int) -> int:
        """See :class:`Device`."""
        address = ctypes.c_uint64()
        if self._driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(num_bytes)) == _OUT_OF_MEMORY:
            free, total = self.memory_bytes()
            raise CapacityError(
                f"{format_size(num_bytes)} do not fit into the memory of {self.name}: {format_size(free)} of "
                f"{format_size(total)} are free; give less kv_memory, or smaller steps "
                "(max_num_batched_tokens)",
                "kv_memory",
            )
        self._held.add(address.value)
        self._call("cuMemsetD8Async", address, ctypes.c_ubyte(0), ctypes.c_size_t(num_bytes), self._stream)
        return address.value

    def memory_bytes(self) -> tuple[int, int]:
        """Memory that is free, and all there is."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def free(self, address: int) -> None:
        """See :class:`Device`."""
        self._held.discard(address)
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def write(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """See :class:`Device`."""
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            self._pointer(array),
            self._size(array.nbytes),
            self._stream,
        )

    def host_memory(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        """See :class:`Device`: its pages stay where they are, so that the device reads them by itself."""
        address = ctypes.c_void_p()
        self._call("cuMemAllocHost_v2", ctypes.byref(address), self._size(num_bytes))
        self._pinned.append(address)
        return np.ctypeslib.as_array((ctypes.c_ubyte * num_bytes).from_address(address.value or 0))

    def send(self, address: int, part: npt.NDArray[np.uint8]) -> None:
        """See :class:`Device`."""
        self.write(address, part)

    def mark(self) -> Callable[[], None]:
        """See :class:`Device`."""
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), _NO_TIMING)
        self._call("cuEventRecord", event, self._stream)

        def wait() -> None:
            self._call("cuEventSynchronize", event)
            self._call("cuEventDestroy_v2", event)

        return wait

    def place(self, arrays: MappedArrays, records: Sequence[ArrayRecord]) -> list[int]:
        """See :class:`Device`; all lie in one piece of memory, to which they are copied."""
        offsets, num_bytes = [], 0
        for record in records:
            offsets.append(num_bytes)
            num_bytes += aligned(len(arrays.bytes_of(record)))
        address = self.allocate(aligned(num_bytes))
        addresses = [address + offset for offset in offsets]
        flat = (arrays.bytes_of(record) for record in records)
        upload(self, zip(addresses, flat, strict=True))
        self._free_pinned()
        return addresses

    def read(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """See :class:`Device`."""
        self._call(
            "cuMemcpyDtoHAsync_v2",
            self._pointer(array),
            ctypes.c_uint64(address),
            self._size(array.nbytes),
            self._stream,
        )
        self.synchronize()

    def copy(self, target: int, source: int, num_bytes: int) -> None:
        """See :class:`Device`."""
        self._call(
            "cuMemcpyDtoDAsync_v2",
            ctypes.c_uint64(target),
            ctypes.c_uint64(source),
            self._size(num_bytes),
            self._stream,
        )

    def synchronize(self) -> None:
        """Wait until all work asked for is done."""
        self._call("cuStreamSynchronize", self._stream)

    # --- kernels

    def takes(self, module: str) -> bool:
        """See :class:`Device`: machine code of the same generation, PTX of this one or any before."""
        name, _, kind = module.rpartition(".")
        own, made_for = version_of(self._gpu.architecture), version_of(name.rpartition("-")[2])
        if kind == "ptx":
            return made_for <= own
        return made_for[0] == own[0] and made_for <= own

    def load(self, module: Path, names: Sequence[str]) -> dict[str, Function]:
        """See :class:`Device`; raises :class:`ArtifactError` where the module is for other GPUs."""
        loaded = ctypes.c_void_p()
        # The driver reads PTX, which is text, up to a zero.
        code = module.read_bytes() + b"\0"
        made_for = version_of(module.stem.rpartition("-")[2])
        self._begins_early = made_for >= _EARLY_ARCHITECTURE and self._driver_version() >= _EARLY_DRIVER
        error = self._driver.cuModuleLoadData(ctypes.byref(loaded), ctypes.c_char_p(code))
        if error in (_NO_BINARY, _BAD_PTX_VERSION):
            raise ArtifactError(
                f"the artifact's kernels are for other GPUs than {self.name} ({self._gpu.architecture}), or "
                "for a newer driver than this machine's"
            )
        self._check("cuModuleLoadData", error)
        functions: dict[str, Function] = {}
        for name in names:
            function = ctypes.c_void_p()
            self._call("cuModuleGetFunction", ctypes.byref(function), loaded, name.encode())
            functions[name] = function
        return functions

    def launch(self, launches: Sequence[KernelLaunch]) -> None:
        """See :class:`Device`."""
        for one in launches:
            config, given = self._writer.write(one, self._lend(one), begins_early=self._begins_early)
            self._call("cuLaunchKernelEx", config, one.function, given, None)

    def _driver_version(self) -> int:
        version = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        return version.value

    def _lend(self, launch: KernelLaunch) -> int:
        """The bytes of shared memory that a launch gets."""
        if launch.shared_bytes <= _USUAL_SHARED_BYTES:
            return launch.shared_bytes
        lent = min(launch.shared_bytes, self._most_shared_bytes)
        if self._lent.get(launch.function.value, 0) < lent:
            self._call("cuFuncSetAttribute", launch.function, _SHARED_BYTES_OF_FUNCTION, lent)
            self._lent[launch.function.value] = lent
        return lent

    def time(self, launches: Sequence[KernelLaunch]) -> list[float]:
        """Launch kernels, one after the other; the seconds from each one's beginning to the next one's."""
        events = [ctypes.c_void_p() for _ in range(len(launches) + 1)]
        for event in events:
            self._call("cuEventCreate", ctypes.byref(event), 0)
        self._call("cuEventRecord", events[0], self._stream)
        for one, event in zip(launches, events[1:], strict=True):
            self.launch([one])
            self._call("cuEventRecord", event, self._stream)
        self.synchronize()
        seconds = []
        for before, after in pairwise(events):
            passed = ctypes.c_float()
            self._call("cuEventElapsedTime", ctypes.byref(passed), before, after)
            seconds.append(passed.value / 1e3)
        for event in events:
            self._call("cuEventDestroy_v2", event)
        return seconds

    def record(self, launches: Sequence[KernelLaunch]) -> Callable[[], None]:
        """What replays the launches at once (a CUDA graph); they are not run while recorded."""
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, _THREAD_LOCAL_CAPTURE)
        try:
            self.launch(launches)
        finally:
            self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        self._call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_uint64(0))
        self._call("cuGraphDestroy", graph)
        return _Graph(self, executable)

    def replay(self, executable: ctypes.c_void_p) -> None:
        """Launch what a graph holds."""
        self._call("cuGraphLaunch", executable, self._stream)

    def forget(self, executable: ctypes.c_void_p) -> None:
        """Give back what a graph takes; with the device all is given back."""
        if self._context.value:
            self._call("cuGraphExecDestroy", executable)

    def _free_pinned(self) -> None:
        for address in self._pinned:
            self._call("cuMemFreeHost", address)
        self._pinned.clear()

    def close(self) -> None:
        """See :class:`Device`."""
        if not self._context.value:
            return
        self.enter()
        self.synchronize()
        for address in tuple(self._held):
            self.free(address)
        self._free_pinned()
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)
        self._context = ctypes.c_void_p()

    # --- calls

    def _call(self, name: str, *arguments: Any) -> None:
        self._check(name, getattr(self._driver, name)(*arguments))

    def _check(self, name: str, error: int) -> None:
        if error:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(error, ctypes.byref(text))
            reason = text.value.decode() if text.value else f"error {error}"
            raise RuntimeError(f"{self.name}: {name} failed: {reason}")

    @staticmethod
    def _pointer(array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    @staticmethod
    def _size(num_bytes: int) -> ctypes.c_size_t:
        return ctypes.c_size_t(num_bytes)


class _Graph:
    """A graph of launches, which goes when nobody can call it any more."""

    def __init__(self, device: CudaDevice, executable: ctypes.c_void_p) -> None:
        self._device, self._executable = device, executable

    def __call__(self) -> None:
        self._device.replay(self._executable)

    def __del__(self) -> None:
        self._device.forget(self._executable)
