"""One GGUF file: metadata by key, and where each tensor's bytes lie.

The format is written down in ``docs/gguf.md`` of ggml. Versions 2 and 3 are read, which differ in nothing but
that files of the third may be big-endian; those are refused.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ...ir.errors import WeightError
from .cursor import Cursor, MetadataValue
from .tensor_types import TENSOR_TYPES, GgufTensorType

__all__ = ["GgufFile", "GgufTensor"]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 4
_ALIGNMENT_KEY, _ALIGNMENT = "general.alignment", 32
_SMALLEST_TENSOR_ENTRY = 24
"""Bytes: a name's length, a count of dimensions, a type and an offset."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor's type, its shape with rows last, and which bytes of the file it lies in."""

    type: GgufTensorType
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, along which blocks lie."""
        return self.shape[-1] // self.type.block_size * self.type.block_bytes

    def __str__(self) -> str:
        return f"{self.type.name}[{', '.join(map(str, self.shape))}]"


class GgufFile:
    """A file that is mapped, and whose header is read and checked at once.

    Raises:
        WeightError: the file is missing, truncated, or not of the format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data = _mapped(path)
        self.num_bytes = len(self._data)
        cursor = Cursor(path, self._data)
        num_tensors, num_values = self._begin(cursor)
        self.metadata: Mapping[str, MetadataValue] = MappingProxyType(self._read_metadata(cursor, num_values))
        self.tensors: Mapping[str, GgufTensor] = MappingProxyType(self._read_tensors(cursor, num_tensors))

    def _begin(self, cursor: Cursor) -> tuple[int, int]:
        """The counts of tensors and of metadata."""
        if self._data[:4] != _MAGIC:
            raise WeightError(f"{self.path} is not a GGUF file: it does not begin with {_MAGIC.decode()}")
        cursor.offset = 4
        version = cursor.uint32("the version")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            reason = "is big-endian" if swapped in _VERSIONS else f"is of version {version}, not of 2 or 3"
            raise WeightError(f"{self.path} {reason}, and cannot be read; convert the model again")
        num_tensors, num_values = (
            cursor.uint64("the count of tensors"),
            cursor.uint64("the count of metadata"),
        )
        most = self.num_bytes // _SMALLEST_TENSOR_ENTRY
        if num_tensors > most:
            raise cursor.corrupt(f"it has {num_tensors} tensors where the file has room for {most}")
        return num_tensors, num_values

    def _read_metadata(self, cursor: Cursor, count: int) -> dict[str, MetadataValue]:
        metadata: dict[str, MetadataValue] = {}
        for number in range(count):
            key = cursor.name(f"key {number} of the metadata")
            if key in metadata:
                raise cursor.corrupt(f"metadata '{key}' is there twice")
            metadata[key] = cursor.value(f"metadata '{key}'")
        return metadata

    def _read_tensors(self, cursor: Cursor, count: int) -> dict[str, GgufTensor]:
        entries: dict[str, tuple[GgufTensorType, tuple[int, ...], int]] = {}
        for number in range(count):
            name = cursor.name(f"the name of tensor {number}")
            if name in entries:
                raise cursor.corrupt(f"tensor '{name}' is there twice")
            entries[name] = self._read_entry(cursor, name)
        alignment = self._alignment(cursor)
        origin = cursor.offset + -cursor.offset % alignment
        tensors = {
            name: self._place(cursor, name, type_, shape, offset, origin, alignment)
            for name, (type_, shape, offset) in entries.items()
        }
        last = 0
        for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
            if tensor.start < last:
                raise cursor.corrupt(f"tensor '{name}' begins at byte {tensor.start} within another one")
            last = tensor.stop
        return tensors

    def _read_entry(self, cursor: Cursor, name: str) -> tuple[GgufTensorType, tuple[int, ...], int]:
        rank = cursor.uint32(f"the rank of tensor '{name}'")
        if not 1 <= rank <= _MOST_DIMENSIONS:
            raise cursor.corrupt(
                f"tensor '{name}' has {rank} dimensions where 1 to {_MOST_DIMENSIONS} can be"
            )
        # A file has the dimension first along which elements lie side by side.
        shape = tuple(cursor.uint64(f"the shape of tensor '{name}'") for _ in range(rank))[::-1]
        code = cursor.uint32(f"the type of tensor '{name}'")
        if code not in TENSOR_TYPES:
            raise cursor.corrupt(f"tensor '{name}' is of the unknown type {code}")
        return TENSOR_TYPES[code], shape, cursor.uint64(f"the offset of tensor '{name}'")

    def _alignment(self, cursor: Cursor) -> int:
        alignment = self.metadata.get(_ALIGNMENT_KEY, _ALIGNMENT)
        if type(alignment) is not int or alignment <= 0 or alignment % 8:
            raise cursor.corrupt(f"'{_ALIGNMENT_KEY}' is {alignment!r}, not a multiple of 8")
        return alignment

    def _place(
        self,
        cursor: Cursor,
        name: str,
        type_: GgufTensorType,
        shape: tuple[int, ...],
        offset: int,
        origin: int,
        alignment: int,
    ) -> GgufTensor:
        if shape[-1] % type_.block_size:
            raise cursor.corrupt(
                f"tensor '{name}' is {type_.name} with rows of {shape[-1]}, no multiple of {type_.block_size}"
            )
        if offset % alignment:
            raise cursor.corrupt(f"tensor '{name}' lies at {offset}, not at a multiple of {alignment}")
        start = origin + offset
        stop = start + math.prod(shape) // type_.block_size * type_.block_bytes
        if stop > self.num_bytes:
            raise WeightError(
                f"{self.path} is truncated: tensor '{name}' ends at byte {stop}, the file at "
                f"{self.num_bytes}; copy or download it again"
            )
        return GgufTensor(type_, shape, start, stop)

    def read(self, name: str) -> npt.NDArray[np.uint8]:
        """The bytes of a tensor, ``[..., row_bytes]``: a view in the mapped file, which it keeps alive."""
        tensor = self.tensors[name]
        data = np.frombuffer(self._data, np.uint8, tensor.stop - tensor.start, tensor.start)
        return data.reshape(*tensor.shape[:-1], tensor.row_bytes)


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise WeightError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # an empty file
        raise WeightError(f"{path} is not a GGUF file: {error}") from error
