"""All that the files of a model say, in one place: metadata, tensors, and what small tensors hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from .container import GgufFile, GgufTensor
from .hyperparameters import Hyperparameters

__all__ = ["Facts"]

_MOST_FACTORS = 4096


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model's configuration is read from.

    Attributes:
        files: all files of the model.
        parameters: the architecture's part of the metadata.
        tensors: what each tensor is.
    """

    files: tuple[GgufFile, ...]
    parameters: Hyperparameters
    tensors: Mapping[str, GgufTensor]

    @classmethod
    def of(cls, files: tuple[GgufFile, ...]) -> Facts:
        """Those of a model's files; raises :class:`ConfigError` where they name no architecture."""
        tensors = {name: tensor for file in files for name, tensor in file.tensors.items()}
        return cls(files, Hyperparameters.of(files[0].path, files[0].metadata), MappingProxyType(tensors))

    @property
    def path(self) -> Path:
        """The first file, which has the metadata."""
        return self.files[0].path

    @property
    def num_layers(self) -> int:
        """How many layers the files say there are; raises :class:`ConfigError` where there cannot be."""
        count = self.parameters.integer("block_count")
        if not 0 < count <= len(self.tensors):
            raise self.parameters.refuse(f"{count} layers cannot be of {len(self.tensors)} tensors")
        return count

    def rows(self, name: str) -> int:
        """How many rows the tensor ``name`` has.

        Raises:
            ConfigError: there is no such matrix.
        """
        tensor = self.tensors.get(name)
        if tensor is None or len(tensor.shape) != 2:
            raise self.parameters.refuse(f"there is no matrix '{name}'")
        return tensor.shape[0]

    def numbers(self, name: str) -> list[float] | None:
        """The positive numbers in a float32 vector, such as the factors of frequencies; None without one.

        Raises:
            ConfigError: it is something else.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            return None
        if tensor.type.name != "F32" or len(tensor.shape) != 1 or tensor.shape[0] > _MOST_FACTORS:
            raise self.parameters.refuse(f"tensor '{name}' is {tensor}, not a short vector in F32")
        (file,) = (file for file in self.files if name in file.tensors)
        values = file.read(name).view(np.float32)
        if not (np.isfinite(values) & (values > 0)).all():
            raise self.parameters.refuse(f"tensor '{name}' holds what is no positive number")
        return [float(str(value)) for value in values]
