"""The GPU of a Mac with Apple silicon, by the host library that an artifact for Metal brings.

CPU and GPU have one memory. So an address on the device is the CPU's, and what goes there is copied by the
CPU, once the GPU is done with it; weights are used where their file is mapped.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ....ir.errors import ArtifactError, CapacityError
from ....targets import metal
from ....targets.manifest import ArrayRecord
from ....targets.sizes import format_size
from ..mapped_arrays import MappedArrays
from ..tvm_library import load_library
from .device import Function, KernelLaunch
from .shared_weights import Segment, segments_of

if TYPE_CHECKING:
    import tvm_ffi

__all__ = ["MetalDevice", "open_metal"]

HOST_LIBRARY = ".dylib"
"""How the name of the host library ends, which else is that of the plan."""


def open_metal(plan: Path) -> MetalDevice:
    """This Mac's GPU, by the host library beside the ``plan``.

    Raises :class:`ArtifactError` where that cannot be loaded, or there is no such GPU.
    """
    return MetalDevice(load_library(plan.with_suffix(HOST_LIBRARY)))


class MetalDevice:
    """A :class:`~.device.Device`: one GPU, and one queue of its own."""

    def __init__(self, host: tvm_ffi.Module) -> None:
        self._host = host
        try:
            self._device: int | None = host["metal_open"](metal.OBJECTIVE_C, metal.FRAMEWORK)
        except RuntimeError as error:
            raise ArtifactError(_reason(error)) from None
        self._name = str(host["metal_name"](self._device))
        self._launch, self._wait = host["metal_launch"], host["metal_wait"]
        self._mapped: list[Segment] = []
        self._program = ""

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    def enter(self) -> None:
        """Nothing: any thread may use the device."""

    # --- memory

    def allocate(self, num_bytes: int) -> int:
        """See :class:`Device`."""
        address = int(self._host["metal_allocate"](self._device, num_bytes))
        if not address:
            raise CapacityError(self._missing(num_bytes), "kv_memory")
        return address

    def _missing(self, num_bytes: int) -> str:
        """Why so many bytes cannot be had."""
        most, (free, total) = self._number("maxBufferLength"), self.memory_bytes()
        if num_bytes > most:
            asked, given = format_size(num_bytes), format_size(most)
            return f"{asked} are asked of {self.name}, which gives out {given} at once"
        return (
            f"{format_size(num_bytes)} do not fit into the memory of {self.name}: {format_size(free)} of the "
            f"{format_size(total)} that it should use are free; give less kv_memory, or smaller steps "
            "(max_num_batched_tokens)"
        )

    def memory_bytes(self) -> tuple[int, int]:
        """Of the memory that the GPU should use, what is free, and all."""
        total = self._number("recommendedMaxWorkingSetSize")
        return max(0, total - self._number("currentAllocatedSize")), total

    def _number(self, name: str) -> int:
        return int(self._host["metal_number"](self._device, name))

    def free(self, address: int) -> None:
        """See :class:`Device`."""
        self.synchronize()
        self._host["metal_free"](self._device, address)

    def place(self, arrays: MappedArrays, records: Sequence[ArrayRecord]) -> list[int]:
        """See :class:`Device`; files are mapped once more and used as they are, or copied where that is
        refused.
        """
        addresses: dict[ArrayRecord, int] = {}
        for segment in segments_of(arrays, records, most_bytes=self._number("maxBufferLength")):
            if self._host["metal_share"](self._device, segment.address, segment.num_bytes):
                self._mapped.append(segment)
                addresses |= {record: segment.address_of(record) for record in segment.records}
            else:
                addresses |= {record: self._copied(arrays[record]) for record in segment.records}
        return [addresses[record] for record in records]

    def _copied(self, array: npt.NDArray[np.generic]) -> int:
        address = self.allocate(max(array.nbytes, 1))
        self.write(address, array)
        return address

    def write(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """See :class:`Device`."""
        self.synchronize()
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def host_memory(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        """See :class:`Device`."""
        return np.zeros(num_bytes, np.uint8)

    def send(self, address: int, part: npt.NDArray[np.uint8]) -> None:
        """See :class:`Device`; it has arrived when this returns."""
        self.write(address, part)

    def mark(self) -> Callable[[], None]:
        """See :class:`Device`."""
        return self.synchronize

    def read(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """See :class:`Device`."""
        self.synchronize()
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, target: int, source: int, num_bytes: int) -> None:
        """See :class:`Device`."""
        self.synchronize()
        ctypes.memmove(target, source, num_bytes)

    def synchronize(self) -> None:
        """Wait until all work asked for is done."""
        try:
            self._wait(self._device)
        except RuntimeError as error:
            raise RuntimeError(f"{self.name}: {_reason(error)}") from None

    # --- kernels

    def takes(self, module: str) -> bool:
        """See :class:`Device`: source, which is for all GPUs of Apple's own."""
        return module.endswith(".metal")

    def load(self, module: Path, names: Sequence[str]) -> dict[str, Function]:
        """See :class:`Device`; the driver compiles them. Raises :class:`ArtifactError` where it refuses."""
        text = module.read_text(encoding="utf-8")
        try:
            if text != self._program:
                self._host["metal_compile"](self._device, text)
                self._program = text
            return {name: self._host["metal_kernel"](self._device, name) for name in names}
        except RuntimeError as error:
            raise ArtifactError(f"{module} cannot be used on {self.name}: {_reason(error)}") from None

    def launch(self, launches: Sequence[KernelLaunch]) -> None:
        """See :class:`Device`."""
        self._submit(_packed(launches))

    def record(self, launches: Sequence[KernelLaunch]) -> Callable[[], None]:
        """See :class:`Device`."""
        words = _packed(launches)
        return lambda: self._submit(words)

    def _submit(self, words: npt.NDArray[np.int64]) -> None:
        try:
            self._launch(self._device, words.ctypes.data, len(words))
        except RuntimeError as error:
            raise RuntimeError(f"{self.name}: {_reason(error)}") from None

    def close(self) -> None:
        """See :class:`Device`."""
        if self._device is None:
            return
        device, self._device = self._device, None
        self._host["metal_close"](device)
        self._mapped.clear()


def _packed(launches: Sequence[KernelLaunch]) -> npt.NDArray[np.int64]:
    """Launches as the host library reads them: see ``Launch`` in its ``launches.h``."""
    words: list[int] = []
    for one in launches:
        numbers = sum(1 << at for at, value in enumerate(one.arguments) if isinstance(value, np.int32))
        words += (one.function, one.threads, *one.grid, len(one.arguments), numbers, *map(int, one.arguments))
    return np.array(words, np.int64)


def _reason(error: RuntimeError) -> str:
    """What the host library says, without where tvm_ffi was meanwhile."""
    return str(error).strip()
