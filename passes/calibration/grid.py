"""The values that a quantized tensor's groups can hold, so that elements find others of their codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...ir import QuantizedArray
from ...ir.quantization import Integers, scales_and_zeros

__all__ = ["FloatArray", "Grid"]

FloatArray = npt.NDArray[np.float32]


class Grid:
    """What the elements of ``array`` ``[rows, n]`` could be with its scales and offsets as they are."""

    def __init__(self, array: QuantizedArray) -> None:
        codes = array.format.codes
        self._format = array.format
        self._scales, self._zeros = scales_and_zeros(array)
        if isinstance(codes, Integers):
            self._codes = np.arange(codes.smallest, codes.largest + 1)
            self._values = self._codes.astype(np.float32)
        else:
            numbers = np.flatnonzero(np.isfinite(codes.values))
            self._codes = numbers[np.argsort(codes.values[numbers], kind="stable")]
            self._values = codes.values[self._codes]
        self._between = (self._values[1:] + self._values[:-1]) / 2
        self._dtype = array.codes.dtype

    def round(self, column: FloatArray, place: int) -> tuple[npt.NDArray[Any], FloatArray]:
        """The nearest codes and values for elements ``[rows]`` of the column at ``place``."""
        size = self._format.group_size
        group = 0 if size is None else place // size
        scales = self._scales[:, group]
        zeros = np.float32(0) if self._zeros is None else self._zeros[:, group]
        inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
        nearest = np.searchsorted(self._between, (column - zeros) * inverse)
        return self._codes[nearest].astype(self._dtype), self._values[nearest] * scales + zeros
