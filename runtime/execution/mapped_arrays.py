"""The arrays of an artifact's parameter files."""

from __future__ import annotations

import mmap
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from ...ir.errors import ArtifactError
from ...targets.manifest import ArrayRecord
from .memory import Bytes, ask_for_huge

__all__ = ["MappedArrays"]


class MappedArrays:
    """Arrays that are mapped from their files and never copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Bytes] = {}
        self._lock = Lock()

    @property
    def folder(self) -> Path:
        """That of the artifact."""
        return self._folder

    def __getitem__(self, record: ArrayRecord) -> npt.NDArray[np.generic]:
        """The array a record describes; raises :class:`ArtifactError` where it does not lie in its file."""
        dtype = np.dtype(record.dtype)
        return self.bytes_of(record).view(dtype).reshape(record.shape)

    def bytes_of(self, record: ArrayRecord) -> Bytes:
        """An array as the bytes of its file; raises as :meth:`__getitem__`."""
        mapped = self.file(record.file)
        num_bytes = int(np.prod(record.shape, dtype=np.int64)) * np.dtype(record.dtype).itemsize
        if record.offset < 0 or record.offset + num_bytes > len(mapped):
            raise ArtifactError(f"{self._folder / record.file} ends before an array of its manifest does")
        return mapped[record.offset : record.offset + num_bytes]

    def file(self, path: str) -> Bytes:
        """All of a file of the artifact, ``path`` within its folder; several threads may ask."""
        with self._lock:
            if path not in self._files:
                with (self._folder / path).open("rb") as file:
                    # Private and writable, because others do not take read-only memory; nobody writes.
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
                ask_for_huge(mapped)
                self._files[path] = np.frombuffer(mapped, np.uint8)
            return self._files[path]
