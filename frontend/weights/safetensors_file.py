"""One safetensors file: eight bytes with the header's length, a JSON header, the tensors' bytes back to back.

The format is written down at https://huggingface.co/docs/safetensors; its own reader would be one more
dependency, and copies what it reads.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ...ir.errors import WeightError
from ...ir.types import ScalarType

__all__ = ["BITS", "SCALARS", "SafetensorsFile", "TensorEntry", "can_be_shape"]

_LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the format's own reader."""

BITS: Mapping[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}

_NARROW_FLOATS = frozenset({"F8_E4M3", "F8_E5M2", "F8_E8M0"})
"""Types that ingot has no scalar type for, but formats whose codes or scales they are."""

SCALARS: Mapping[str, ScalarType] = {
    "F32": ScalarType.FLOAT32,
    "F16": ScalarType.FLOAT16,
    "BF16": ScalarType.BFLOAT16,
    "I8": ScalarType.INT8,
    "U8": ScalarType.UINT8,
    "I32": ScalarType.INT32,
    "I64": ScalarType.INT64,
}


_MOST_DIMENSIONS = 32
"""More than any tensor has; with huge numbers of many digits, even a product takes its time."""


def can_be_shape(dims: Sequence[object]) -> bool:
    """Whether ``dims`` are counts, and so few and small that they can be multiplied."""
    return len(dims) <= _MOST_DIMENSIONS and all(type(dim) is int and 0 <= dim < 1 << 63 for dim in dims)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What a tensor is, ``dtype`` in the file's words, and which bytes of the file it lies in."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def scalar(self) -> ScalarType | None:
        """The scalar type, or ``None`` where ingot has none for ``dtype``."""
        return SCALARS.get(self.dtype)


class SafetensorsFile:
    """A file whose header is read and checked at once, and whose tensors are mapped when first read.

    Raises:
        WeightError: the file is missing, truncated, or not of the format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.num_bytes = path.stat().st_size
            with path.open("rb") as stream:
                start = stream.read(8)
                length = int.from_bytes(start, "little")
                if len(start) < 8 or length > _LONGEST_HEADER:
                    raise WeightError(
                        f"{path} is not a safetensors file: it does not begin with a header's length"
                    )
                if 8 + length > self.num_bytes:
                    raise WeightError(
                        f"{path} is truncated: its header alone needs {8 + length} bytes, "
                        f"the file has {self.num_bytes}"
                    )
                text = stream.read(length)
        except OSError as error:
            raise WeightError(f"{path} cannot be read: {error.strerror}") from error
        self.entries: Mapping[str, TensorEntry] = MappingProxyType(self._parse(text))

    def _corrupt(self, reason: str) -> WeightError:
        return WeightError(f"{self.path} has a corrupt header: {reason}")

    def _parse(self, text: bytes) -> dict[str, TensorEntry]:
        try:
            header = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._corrupt(f"not JSON ({error})") from error
        if not isinstance(header, dict):
            raise self._corrupt("not a JSON object")
        header.pop("__metadata__", None)
        entries = {name: self._entry(name, fields, 8 + len(text)) for name, fields in header.items()}
        stop = 8 + len(text)
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
            if entry.start != stop:
                raise self._corrupt(f"tensor '{name}' begins at byte {entry.start} where {stop} is next")
            stop = entry.stop
        if stop > self.num_bytes:
            raise WeightError(
                f"{self.path} is truncated: its tensors need {stop} bytes, the file has {self.num_bytes}; "
                "copy or download it again"
            )
        if stop < self.num_bytes:
            raise self._corrupt(f"its tensors end at byte {stop}, the file at {self.num_bytes}")
        return entries

    def _entry(self, name: str, fields: object, origin: int) -> TensorEntry:
        match fields:
            case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(stop)]}:
                pass
            case _:
                raise self._corrupt(f"tensor '{name}' has no dtype, shape and data_offsets")
        if dtype not in BITS:
            raise self._corrupt(f"tensor '{name}' is of the unknown type '{dtype}'")
        if not can_be_shape(shape) or start < 0:
            raise self._corrupt(f"tensor '{name}' has a shape or offsets that are not counts")
        needed = math.prod(shape) * BITS[dtype]
        if (stop - start) * 8 != needed:
            raise self._corrupt(
                f"tensor '{name}' takes {stop - start} bytes where {dtype}{shape} is {needed // 8}"
            )
        return TensorEntry(dtype, tuple(shape), origin + start, origin + stop)

    @cached_property
    def _mapped(self) -> npt.NDArray[np.uint8]:
        try:
            with self.path.open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise WeightError(f"{self.path} cannot be mapped into memory: {error}") from error
        if len(mapped) != self.num_bytes:
            raise WeightError(
                f"{self.path} changed from {self.num_bytes} to {len(mapped)} bytes while it was in use"
            )
        return np.frombuffer(mapped, np.uint8)

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """A read-only view of the tensor in the mapped file; not always aligned, it keeps the mapping alive.

        Raises:
            WeightError: the tensor's type has no counterpart in numpy, or the file is gone.
        """
        entry = self.entries[name]
        if entry.scalar is None:
            raise WeightError(f"{self.path}: tensor '{name}' is {entry.dtype}, which cannot be read")
        return self._bytes(entry).view(entry.scalar.numpy).reshape(entry.shape)

    def read_stored(self, name: str) -> npt.NDArray[np.generic]:
        """The same, and floats of eight bits as the bytes they are; raises :class:`WeightError`."""
        entry = self.entries[name]
        if entry.dtype in _NARROW_FLOATS:
            return self._bytes(entry).reshape(entry.shape)
        return self.read(name)

    def _bytes(self, entry: TensorEntry) -> npt.NDArray[np.uint8]:
        return self._mapped[entry.start : entry.stop]
