"""What running a plan needs of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Device", "Function"]

Function = Any
"""A kernel of a module that was loaded, as a device knows it."""


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

    def read(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """Copy from the device into an array, when all work asked for is done."""
        ...

    def copy(self, target: int, source: int, num_bytes: int) -> None:
        """Copy within the device."""
        ...

    def takes(self, module: str) -> bool:
        """Whether it runs the module in a file of this name, such as ``sm_90.cubin`` or ``sm_90.ptx``."""
        ...

    def load(self, code: bytes, names: Sequence[str]) -> dict[str, Function]:
        """The kernels of these names in a module of machine code or PTX."""
        ...

    def launch(
        self,
        function: Function,
        grid: tuple[int, int, int],
        threads: int,
        arguments: Sequence[int | np.int32],
    ) -> None:
        """Launch a kernel; arguments are addresses, or int32 numbers."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What replays the launches that ``work`` asks for; they are not run while they are recorded."""
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
