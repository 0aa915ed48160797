"""The file that a graph's weights lie in, written while the graph is built.

A weight is computed, packed as the operator that uses it wants it, and appended, when the first graph asks
for it; what asks again, in another graph too, is told where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from blake3 import blake3

from ...ir import Array, Value

__all__ = ["ALIGNMENT", "AnyArray", "Stored", "WeightFile"]

AnyArray = npt.NDArray[np.generic]

ALIGNMENT = 4096
"""Bytes that a weight's place is a multiple of: a page of memory, so that it can be mapped by itself."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An array in the file: what it is called in graphs, its dtype and shape, and its first byte."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int

    @property
    def num_bytes(self) -> int:
        """Bytes it takes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def viewed(self, suffix: str, shape: tuple[int, ...]) -> Stored:
        """The same bytes in another shape, under a name of their own."""
        return replace(self, name=self.name + suffix, shape=shape)

    def part(self, index: int) -> Stored:
        """What lies at ``index`` of the first dimension."""
        one = replace(self, name=f"{self.name}.{index}", shape=self.shape[1:])
        return replace(one, offset=self.offset + index * one.num_bytes)

    def proto(self, location: str) -> onnx.TensorProto:
        """The initializer whose bytes are in the file ``location`` beside the model."""
        tensor = onnx.TensorProto()
        tensor.name = self.name
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        tensor.dims.extend(self.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", self.offset), ("length", self.num_bytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class WeightFile:
    """Arrays one after the other in ``stream``; ``compute`` gives a parameter's values by its name."""

    def __init__(self, stream: BinaryIO, compute: Callable[[str], Array]) -> None:
        self._stream = stream
        self._compute = compute
        self._stored: dict[tuple[str, str], dict[str, Stored]] = {}
        self._types: dict[str, str] = {}
        self.hash = blake3(max_threads=blake3.AUTO)
        self.num_bytes = 0

    def store(
        self, parameter: Value, kind: str, pack: Callable[[Array], Mapping[str, AnyArray]]
    ) -> Mapping[str, Stored]:
        """The arrays that ``pack`` makes of a parameter, by the names it gives them.

        The same parameter and ``kind`` are packed once.
        """
        key = parameter.name, kind
        if key not in self._stored:
            arrays = pack(self._compute(parameter.name))
            self._types[parameter.name] = str(parameter.type)
            self._stored[key] = {
                part: self._append(f"{parameter.name}.{part}", array) for part, array in arrays.items()
            }
        return self._stored[key]

    def __iter__(self) -> Iterator[tuple[str, str, str, tuple[Stored, ...]]]:
        """Each stored parameter: its name, its type in the IR, how it is packed, and its arrays."""
        for (name, kind), parts in self._stored.items():
            yield name, self._types[name], kind, tuple(parts.values())

    def _append(self, name: str, array: AnyArray) -> Stored:
        self._write(bytes(-self.num_bytes % ALIGNMENT))
        stored = Stored(name, array.dtype, array.shape, self.num_bytes)
        self._write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return stored

    def _write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self.hash.update(data)
        self.num_bytes += len(data)
