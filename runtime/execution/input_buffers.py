"""Where the arrays that describe a step lie for its kernels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from ...targets.manifest import InputRecord
from .memory import empty_pages
from .tvm_library import shared

__all__ = ["InputBuffers"]

_INT32 = np.dtype(np.int32)
_FEWEST = 1024


class InputBuffers:
    """Memory kept from step to step: to have it of the system and give it back, each time and for each array,
    would take longer than a small model's step.
    """

    def __init__(self, records: Iterable[InputRecord]) -> None:
        """Make room for the inputs of ``records``, all int32."""
        self._buffers = {record.name: empty_pages((_FEWEST,), _INT32) for record in records}

    def fill(self, batch: Mapping[str, npt.NDArray[np.int32]]) -> list[object]:
        """The inputs as kernels take them, in the order of the records; good until the next call."""
        return [self._put(name, batch[name]) for name in self._buffers]

    def _put(self, name: str, array: npt.NDArray[np.int32]) -> object:
        if array.size > self._buffers[name].size:
            self._buffers[name] = empty_pages((1 << (array.size - 1).bit_length(),), _INT32)
        place = self._buffers[name][: array.size].reshape(array.shape)
        place[...] = array
        return shared(place)
