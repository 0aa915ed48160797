"""A Mac's GPU in the place of an emulated one: kernel by kernel, with what they need of memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from ingot.codegen.metal import library
from ingot.runtime.execution.gpu.device import KernelLaunch
from ingot.runtime.execution.gpu.metal_device import MetalDevice, open_metal

__all__ = ["MacGpu"]


class MacGpu:
    """As ``running.EmulatedGpu`` is. CPU and GPU have one memory, so that numpy sees what kernels see.

    Attributes:
        opened: all devices, for whoever closes them.
    """

    opened: ClassVar[list[MetalDevice]] = []

    def __init__(self, text: str, folder: Path) -> None:
        (folder / "metal.dylib").write_bytes(library.build_host_library())
        self._module = folder / "metal.metal"
        self._module.write_text(text)
        self._device = open_metal(folder / "metal.json")
        self.opened.append(self._device)
        self._functions: dict[str, int] = {}

    def memory(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        address = self._device.allocate(num_bytes)
        return np.ctypeslib.as_array((ctypes.c_uint8 * num_bytes).from_address(address))

    def launch(
        self, kernel: str, grid: tuple[int, int, int], threads: int, values: Sequence[int | np.int32]
    ) -> None:
        if kernel not in self._functions:
            self._functions |= self._device.load(self._module, [kernel])
        self._device.launch([KernelLaunch(self._functions[kernel], grid, threads, tuple(values))])

    def finish(self) -> None:
        self._device.synchronize()
