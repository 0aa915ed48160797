"""The weights of a quantized checkpoint, by the names and in the formats that the model has them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ....ir.errors import WeightError
from ....ir.operator import Array
from ....ir.types import ScalarType, TensorType
from ..source import FileWeights
from .matrix import StoredMatrix

__all__ = ["QuantizedWeights"]

_ORDER = "order"
"""What the name of a matrix is followed by in that of the order of its columns."""

_OF_THE_CACHE = ("k_scale", "v_scale")
"""Scales for rounding keys and values, which is the cache's business; no matrix depends on them."""


class QuantizedWeights:
    """A :class:`WeightSource` in which quantized matrices stand for the tensors that they are made of.

    Where the columns of a matrix are in another order than its inputs, ``orders`` has the name of an int32
    tensor with the input of each column. Matrices in one order share it.

    Raises:
        WeightError: a matrix is there twice.
    """

    def __init__(self, stored: FileWeights, method: str, matrices: Iterable[StoredMatrix]) -> None:
        self._stored = stored
        self.method = method
        self._matrices: dict[str, StoredMatrix] = {}
        hidden: set[str] = set()
        for matrix in matrices:
            hidden.update(matrix.parts)
            if matrix.name in self._matrices or (stored.holds(matrix.name) and matrix.name not in hidden):
                raise WeightError(
                    f"'{matrix.name}' in {stored.files[0].parent} is there twice: as a matrix quantized by "
                    f"{method}, and otherwise"
                )
            self._matrices[matrix.name] = matrix
        self._orders, self.orders = _shared_orders(self._matrices)
        others = [
            name
            for name in stored.names
            if name not in hidden and name.rpartition(".")[2] not in _OF_THE_CACHE
        ]
        plain = {name: stored.types[name] for name in others if name in stored.types}
        matrix_types = {name: matrix.type for name, matrix in self._matrices.items()}
        order_types = {
            name: TensorType(order.shape, ScalarType.INT32) for name, order in self._orders.items()
        }
        self.types: Mapping[str, TensorType] = MappingProxyType(plain | matrix_types | order_types)
        self.names: Sequence[str] = sorted({*others, *self.types})
        self.files: tuple[Path, ...] = stored.files
        self.num_bytes = stored.num_bytes

    def _part(self, name: str) -> str:
        """A tensor of the files that ``name`` is, or is made of."""
        matrix = self._matrices.get(name.removesuffix(f".{_ORDER}"))
        return name if matrix is None else matrix.parts[0]

    def describe(self, name: str) -> str:
        """Type and shape of a tensor, for messages."""
        return str(self.types[name]) if name in self.types else self._stored.describe(name)

    def locate(self, name: str) -> Path:
        """The file a tensor is in, or the first part of it."""
        return self._stored.locate(self._part(name))

    def read(self, name: str) -> Array:
        """A tensor's values; raises :class:`WeightError`."""
        if name in self._orders:
            return self._orders[name]
        if name in self._matrices:
            return self._matrices[name].read()
        return self._stored.read(name)


def _shared_orders(
    matrices: Mapping[str, StoredMatrix],
) -> tuple[dict[str, npt.NDArray[np.int32]], dict[str, str]]:
    """The different orders by name, and the name of each matrix's."""
    by_content: dict[bytes, str] = {}
    orders, names = {}, {}
    for name, matrix in matrices.items():
        if matrix.order is not None:
            names[name] = by_content.setdefault(matrix.order.tobytes(), f"{name}.{_ORDER}")
            orders[names[name]] = matrix.order
    return orders, names
