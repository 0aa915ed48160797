"""What running a plan needs of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ....targets.manifest import ArrayRecord
from ..mapped_arrays import MappedArrays

__all__ = ["Device", "Function", "KernelLaunch"]

Function = Any
"""A kernel of a module that was loaded, as a device knows it."""


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """A kernel over a ``grid`` of blocks of ``threads``; arguments are addresses, or int32 numbers.

    A block has ``shared_bytes`` of shared memory beside what it declares, or what the device has of them.
    """

    function: Function
    grid: tuple[int, int, int]
    threads: int
    arguments: tuple[int | np.int32, ...]
    shared_bytes: int = 0


class Device(Protocol):
    """A GPU. Work on it is done in the order in which it is asked for; addresses are whole numbers."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def allocate(self, num_bytes: int) -> int:
        """The address of zeros, aligned to 256 bytes; raises :class:`CapacityError` where they do not fit."""
        ...

    def free(self, address: int) -> None:
        """Give memory back."""
        ...

    def write(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """Copy an array to the device; its memory can be used again when this returns."""
        ...

    def host_memory(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        """Memory of this machine from which :meth:`send` copies; it is the device's, and lives as long."""
        ...

    def send(self, address: int, part: npt.NDArray[np.uint8]) -> None:
        """Copy part of :meth:`host_memory` to the device. It must not be written to again before it is known
        to have arrived, by :meth:`mark`, :meth:`synchronize` or a :meth:`read`.
        """
        ...

    def mark(self) -> Callable[[], None]:
        """What waits until all work asked for so far is done; it is to be called once."""
        ...

    def read(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """Copy from the device into an array, when all work asked for is done."""
        ...

    def copy(self, target: int, source: int, num_bytes: int) -> None:
        """Copy within the device."""
        ...

    def place(self, arrays: MappedArrays, records: Sequence[ArrayRecord]) -> list[int]:
        """Addresses of an artifact's arrays on the device, which are never written to.

        Raises :class:`CapacityError` where they do not fit.
        """
        ...

    def takes(self, module: str) -> bool:
        """Whether it runs the module in a file of this name, such as ``cuda-sm_90.cubin`` or ``.ptx``."""
        ...

    def load(self, module: Path, names: Sequence[str]) -> dict[str, Function]:
        """The kernels of these names in the module in a file."""
        ...

    def launch(self, launches: Sequence[KernelLaunch]) -> None:
        """Launch kernels, one after the other."""
        ...

    def record(self, launches: Sequence[KernelLaunch]) -> Callable[[], None]:
        """What launches these kernels whenever it is called, at less cost; now they are not run."""
        ...

    def synchronize(self) -> None:
        """Wait until all work asked for is done."""
        ...

    def enter(self) -> None:
        """Let this thread use the device."""
        ...

    def memory_bytes(self) -> tuple[int, int]:
        """Memory that is free, and all there is."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...
