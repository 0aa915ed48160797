"""One PyTorch checkpoint, as ``torch.save`` has written it since 1.6: a zip of a pickle and tensors' bytes.

Nothing in it is executed (see :mod:`torch_pickle`), and nothing is unpacked: torch stores members as they
are, so that tensors are read where they lie in the mapped file. A compressed member is refused.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ...ir.errors import WeightError
from .safetensors_file import BITS, SCALARS, TensorEntry
from .torch_pickle import PickledTensor, UnpicklingError, read_pickle

__all__ = ["TorchFile"]

_LONGEST_PICKLE = 1 << 26
"""Bytes; that of a checkpoint of ten thousand tensors takes two millions."""

_MOST_MEMBERS = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts put the weights beside other things."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Bytes of the file."""

    start: int
    stop: int


class TorchFile:
    """A file whose pickle is read and checked at once, and whose tensors are mapped when first read.

    Raises:
        WeightError: the file is missing, truncated, not of the format, or would run code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.num_bytes = path.stat().st_size
            with path.open("rb") as stream:
                members = self._members(zipfile.ZipFile(stream))
        except OSError as error:
            raise WeightError(f"{path} cannot be read: {error.strerror or error}") from error
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError) as error:
            raise WeightError(
                f"{path} is not a checkpoint of torch 1.6 or later, which are zip files ({error}); load and "
                "save older ones with torch again"
            ) from error
        self._storages = {
            name.rpartition("/")[2]: span for name, span in members.items() if "/data/" in f"/{name}"
        }
        self._tensors = self._read_tensors(members)
        self.entries: Mapping[str, TensorEntry] = MappingProxyType(
            {name: self._entry(name, tensor) for name, tensor in self._tensors.items()}
        )

    def _corrupt(self, reason: str) -> WeightError:
        return WeightError(f"{self.path} is corrupt: {reason}")

    def _members(self, archive: zipfile.ZipFile) -> dict[str, _Span]:
        """Where each member's bytes are."""
        found = archive.infolist()
        if len(found) > _MOST_MEMBERS:
            raise self._corrupt(f"it has {len(found)} members")
        data = self._mapped
        spans: dict[str, _Span] = {}
        for member in found:
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise WeightError(
                    f"{self.path}: member '{member.filename}' is compressed, which torch's never are"
                )
            at = member.header_offset
            if not 0 <= at <= self.num_bytes - _LOCAL_HEADER.size:
                raise self._corrupt(f"member '{member.filename}' begins at byte {at}")
            signature, name_length, extra_length = _LOCAL_HEADER.unpack_from(data, at)
            start = at + _LOCAL_HEADER.size + name_length + extra_length
            stop = start + member.file_size
            if signature != b"PK\x03\x04" or stop > self.num_bytes:
                raise self._corrupt(f"member '{member.filename}' is not where the zip's index says")
            if member.filename in spans:
                raise self._corrupt(f"member '{member.filename}' is there twice")
            spans[member.filename] = _Span(start, stop)
        last = 0
        for name, span in sorted(spans.items(), key=lambda item: (item[1].start, item[1].stop)):
            if span.start < last:
                raise self._corrupt(f"member '{name}' begins at byte {span.start} within another one")
            last = span.stop
        return spans

    def _read_tensors(self, members: Mapping[str, _Span]) -> dict[str, PickledTensor]:
        pickles = [span for name, span in members.items() if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise self._corrupt(f"it has {len(pickles)} members data.pkl where one is expected")
        (span,) = pickles
        orders = [span for name, span in members.items() if name.rpartition("/")[2] == "byteorder"]
        if any(bytes(self._mapped[order.start : order.stop]) != b"little" for order in orders):
            raise WeightError(f"{self.path} is not little-endian, and cannot be read")
        if span.stop - span.start > _LONGEST_PICKLE:
            raise self._corrupt(f"its pickle has {span.stop - span.start} bytes")
        try:
            root = read_pickle(bytes(self._mapped[span.start : span.stop]))
        except UnpicklingError as error:
            raise WeightError(f"{self.path} {error}") from error
        return self._named(root)

    def _named(self, root: object) -> dict[str, PickledTensor]:
        """Tensors by name, whether they are alone or beside what a training script kept."""
        for wrapper in _WRAPPERS:
            if isinstance(root, dict) and isinstance(root.get(wrapper), dict):
                root = root[wrapper]
        if not isinstance(root, dict):
            raise WeightError(f"{self.path} holds no dictionary of tensors by name")
        tensors: dict[str, PickledTensor] = {}
        for name, value in root.items():
            if value is None:
                continue
            if not isinstance(name, str) or not isinstance(value, PickledTensor):
                kind = type(value).__name__
                raise WeightError(f"{self.path} holds '{name}', a {kind} where tensors are expected")
            tensors[name] = value
        if not tensors:
            raise WeightError(f"{self.path} holds no tensors")
        return tensors

    def _entry(self, name: str, tensor: PickledTensor) -> TensorEntry:
        """Where the tensor's bytes begin and end; they need not be all between."""
        span = self._storages.get(tensor.storage)
        if span is None:
            raise self._corrupt(f"tensor '{name}' lies in storage '{tensor.storage}', which there is not")
        size = BITS[tensor.dtype] // 8
        capacity = (span.stop - span.start) // size
        count, last = 1, tensor.offset
        for dim, stride in zip(tensor.shape, tensor.strides, strict=True):
            count *= dim
            last += (dim - 1) * stride
        # More elements than there are would be repetitions, which take memory when they are read.
        if count and (last >= capacity or count > capacity):
            raise self._corrupt(
                f"tensor '{name}' of shape {list(tensor.shape)} does not fit into its storage of {capacity}"
            )
        start = span.start + tensor.offset * size
        return TensorEntry(
            tensor.dtype, tensor.shape, start, span.start + (last + 1) * size if count else start
        )

    @cached_property
    def _mapped(self) -> mmap.mmap:
        try:
            with self.path.open("rb") as stream:
                return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise WeightError(f"{self.path} cannot be mapped into memory: {error}") from error

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """A read-only view of the tensor in the mapped file; not always aligned, it keeps the mapping alive.

        Raises:
            WeightError: the tensor's type has no counterpart in numpy.
        """
        entry, tensor = self.entries[name], self._tensors[name]
        scalar = SCALARS.get(entry.dtype)
        if scalar is None:
            raise WeightError(f"{self.path}: tensor '{name}' is {entry.dtype}, which cannot be read")
        size = scalar.num_bytes
        count = (entry.stop - entry.start) // size
        values = np.frombuffer(self._mapped, np.uint8, count * size, entry.start).view(scalar.numpy)
        if not count:
            return values.reshape(entry.shape)
        strides = [stride * size for stride in tensor.strides]
        view = np.lib.stride_tricks.as_strided(values, entry.shape, strides, writeable=False)
        return np.ascontiguousarray(view) if not view.flags.c_contiguous else view

    def read_stored(self, name: str) -> npt.NDArray[np.generic]:
        """The same: torch's files have no type that is read as other bytes."""
        return self.read(name)
