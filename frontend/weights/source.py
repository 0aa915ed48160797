"""A checkpoint as what it holds: tensors by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...ir.errors import WeightError
from ...ir.operator import Array
from ...ir.types import TensorType
from .safetensors_file import TensorEntry

__all__ = ["FileWeights", "TensorFile", "WeightSource"]


class WeightSource(Protocol):
    """Tensors by name. Looking at names and types reads no values."""

    @property
    def names(self) -> Sequence[str]:
        """All tensors, sorted."""
        ...

    @property
    def types(self) -> Mapping[str, TensorType]:
        """Types of those tensors whose elements ingot has a scalar type or a format for."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files the tensors are in."""
        ...

    @property
    def num_bytes(self) -> int:
        """Size of ``files`` together."""
        ...

    def describe(self, name: str) -> str:
        """Type and shape of a tensor as the file has it, for messages."""
        ...

    def locate(self, name: str) -> Path:
        """The file a tensor is in."""
        ...

    def read(self, name: str) -> Array:
        """A tensor's values, without a copy where the source allows; raises :class:`WeightError`."""
        ...


class TensorFile(Protocol):
    """A file of tensors: safetensors, or torch's."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    @property
    def num_bytes(self) -> int:
        """How large it is."""
        ...

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """What each tensor is, by name."""
        ...

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """A tensor's values; raises :class:`WeightError`."""
        ...

    def read_stored(self, name: str) -> npt.NDArray[np.generic]:
        """The same, and floats of eight bits as the bytes they are; raises :class:`WeightError`."""
        ...


class FileWeights:
    """The tensors of one or several files.

    Raises:
        WeightError: two files hold a tensor of one name.
    """

    def __init__(self, files: Sequence[TensorFile]) -> None:
        self._owners: dict[str, TensorFile] = {}
        for file in files:
            for name in file.entries:
                if (other := self._owners.setdefault(name, file)) is not file:
                    raise WeightError(f"tensor '{name}' is both in {other.path} and in {file.path.name}")
        self.names: Sequence[str] = sorted(self._owners)
        self.files = tuple(file.path for file in files)
        self.num_bytes = sum(file.num_bytes for file in files)
        self.types: Mapping[str, TensorType] = MappingProxyType(
            {
                name: TensorType(entry.shape, entry.scalar)
                for name in self.names
                if (entry := self.entry(name)).scalar is not None
            }
        )

    def _owner(self, name: str) -> TensorFile:
        try:
            return self._owners[name]
        except KeyError:
            raise WeightError(f"there is no tensor '{name}' in {', '.join(map(str, self.files))}") from None

    def holds(self, name: str) -> bool:
        """Whether there is a tensor ``name``."""
        return name in self._owners

    def entry(self, name: str) -> TensorEntry:
        """What the file says of a tensor; raises :class:`WeightError` where there is none."""
        return self._owner(name).entries[name]

    def describe(self, name: str) -> str:
        """Type and shape of a tensor as the file has it, for messages."""
        entry = self.entry(name)
        element = entry.dtype if entry.scalar is None else entry.scalar.value
        return f"{element}[{', '.join(map(str, entry.shape))}]"

    def locate(self, name: str) -> Path:
        """The file a tensor is in."""
        return self._owner(name).path

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """A read-only view in the mapped file, not always aligned; raises :class:`WeightError`."""
        return self._owner(name).read(name)

    def read_stored(self, name: str) -> npt.NDArray[np.generic]:
        """The same, and floats of eight bits as the bytes they are; raises :class:`WeightError`."""
        return self._owner(name).read_stored(name)
