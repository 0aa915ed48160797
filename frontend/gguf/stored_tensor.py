"""A tensor of a GGUF file as a checkpoint has it: under another name, in other shape and order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...ir.errors import WeightError
from ...ir.operator import Array
from ...ir.quantization import unpack_blocks
from ...ir.types import ScalarType, TensorType
from .container import GgufFile, GgufTensor

__all__ = ["StoredTensor", "stored_tensor"]

_VECTORS = ("mlp.shared_expert_gate.weight",)
"""Matrices of one row, which files have as vectors."""

_CONVOLUTIONS = ("conv.conv.weight",)
"""Weights ``[channels, 1, taps]``, which files have as matrices."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor is, and the shape it goes by.

    Where ``heads`` is not 0, the rows of each head lie so that neighbours turn together: element i of a
    head's first half is followed by element i of the second. They are read as checkpoints have them, where
    the halves follow each other. Whole rows change places, so blocks along them stay whole.
    """

    file: GgufFile
    name: str
    shape: tuple[int, ...]
    heads: int = 0

    @property
    def stored(self) -> GgufTensor:
        """What it is in the file."""
        return self.file.tensors[self.name]

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def type(self) -> TensorType | None:
        """Its type, None where ingot has no such."""
        element = self.stored.type.element
        return None if element is None else TensorType(self.shape, element)

    def __str__(self) -> str:
        return f"{self.stored} (there '{self.name}')"

    def read(self) -> Array:
        """Its values: a view in the mapped file where they are numbers with their rows in order.

        Raises:
            WeightError: it is of a type that cannot be read.
        """
        element = self.stored.type.element
        if element is None:
            raise WeightError(
                f"{self.path}: tensor '{self.name}' is {self.stored}: {self.stored.type.name} cannot be read"
            )
        if isinstance(element, ScalarType):
            return self._rows().view(element.numpy).reshape(self.shape)
        rows = self._rows().reshape(*self.shape[:-1], self.stored.row_bytes)
        return unpack_blocks(element.name, rows)

    def _rows(self) -> npt.NDArray[np.uint8]:
        """Bytes ``[..., rows, row_bytes]``."""
        rows = self.file.read(self.name)
        if not self.heads:
            return rows
        if len(self.stored.shape) == 1:  # a bias: its elements are the rows
            rows = rows.reshape(-1, self.stored.type.block_bytes)
        pairs = rows.reshape(self.heads, -1, 2, rows.shape[-1])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def stored_tensor(file: GgufFile, there: str, name: str, heads: int) -> StoredTensor:
    """The tensor that ``file`` calls ``there`` and a checkpoint ``name``.

    Raises:
        WeightError: its rows cannot be those of so many heads.
    """
    tensor = file.tensors[there]
    shape = tensor.shape
    if name.endswith(_VECTORS) and len(shape) == 1:
        shape = (1, *shape)
    if name.endswith(_CONVOLUTIONS) and len(shape) == 2:
        shape = (shape[0], 1, shape[1])
    if heads and (shape[0] % (2 * heads) or (len(shape) == 1 and tensor.type.block_size != 1)):
        raise WeightError(
            f"{file.path}: tensor '{there}' is {tensor}, whose rows are no even number for {heads} heads each"
        )
    assert math.prod(shape) == math.prod(tensor.shape)
    return StoredTensor(file, there, shape, heads)
