"""Reading a GGUF header value by value, never beyond the file and never more than it can hold."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...ir.errors import WeightError

__all__ = ["Cursor", "MetadataValue"]

MetadataValue = bool | int | float | str | npt.NDArray[np.generic] | tuple[str, ...]
"""A value of the metadata: one, or an array of numbers or of strings."""

_FORMATS: Mapping[int, str] = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""Numbers by their type's number, in the words of :mod:`struct` and numpy."""

_STRING, _ARRAY = 8, 9
_LONGEST_STRING = 1 << 26
_LONGEST_NAME = 1 << 10
_MOST_STRINGS = 1 << 24
"""Vocabularies have some hundred thousand tokens, and as many merges."""


class Cursor:
    """A place in a mapped file from which values are read, in the file's order.

    Every method raises :class:`WeightError` where the file does not hold what it says.
    """

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self.offset = 0

    def corrupt(self, reason: str) -> WeightError:
        """The error that says ``reason`` of this file, for the caller to raise."""
        return WeightError(f"{self._path} has a corrupt header: {reason}")

    def _take(self, num_bytes: int, what: str) -> int:
        """Step over ``num_bytes``; where they begin."""
        start = self.offset
        if num_bytes > len(self._data) - start:
            raise WeightError(
                f"{self._path} is truncated: {what} at byte {start} needs {num_bytes} bytes, "
                f"the file has {len(self._data)}"
            )
        self.offset = start + num_bytes
        return start

    def _number(self, code: str, what: str) -> bool | int | float:
        start = self._take(struct.calcsize(f"<{code}"), what)
        (value,) = struct.unpack_from(f"<{code}", self._data, start)
        number: bool | int | float = value
        return number

    def uint32(self, what: str) -> int:
        """A count or an enumeration's number."""
        return int(self._number("I", what))

    def uint64(self, what: str) -> int:
        """A size or an offset."""
        return int(self._number("Q", what))

    def name(self, what: str) -> str:
        """The name of a value or a tensor: a text, but a short one."""
        return self.string(what, most=_LONGEST_NAME)

    def string(self, what: str, *, most: int = _LONGEST_STRING) -> str:
        """A text behind its length in bytes."""
        length = self.uint64(what)
        if length > most:
            raise self.corrupt(f"{what} is a string of {length} bytes")
        start = self._take(length, what)
        try:
            return self._data[start : start + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.corrupt(f"{what} is not UTF-8 ({error.reason})") from None

    def value(self, what: str) -> MetadataValue:
        """A value behind its type."""
        kind = self.uint32(f"the type of {what}")
        if kind == _STRING:
            return self.string(what)
        if kind == _ARRAY:
            return self._array(what)
        return self._number(self._code(kind, what), what)

    def _code(self, kind: int, what: str) -> str:
        if kind not in _FORMATS:
            raise self.corrupt(f"{what} is of the unknown type {kind}")
        return _FORMATS[kind]

    def _array(self, what: str) -> MetadataValue:
        kind, count = self.uint32(f"the type of {what}"), self.uint64(f"the length of {what}")
        if kind == _STRING:
            if count > _MOST_STRINGS:
                raise self.corrupt(f"{what} is an array of {count} strings")
            self._expect(8 * count, what)
            return tuple(self.string(what) for _ in range(count))
        if kind == _ARRAY:
            raise self.corrupt(f"{what} is an array of arrays, which are not read")
        dtype = np.dtype(f"<{self._code(kind, what)}")
        self._expect(dtype.itemsize * count, what)
        start = self._take(dtype.itemsize * count, what)
        return np.frombuffer(self._data, dtype, count, start)

    def _expect(self, num_bytes: int, what: str) -> None:
        """Refuse a count before anything is made of so many."""
        if num_bytes > len(self._data) - self.offset:
            raise WeightError(
                f"{self._path} is truncated: {what} needs {num_bytes} bytes from byte {self.offset} on, "
                f"the file has {len(self._data)}"
            )
