"""Tensors chosen from one or several checkpoints, under other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ...ir.operator import Array
from ...ir.types import TensorType
from .source import WeightSource

__all__ = ["SelectedWeights"]


class SelectedWeights:
    """A :class:`WeightSource` of tensors ``(source, name there)`` by the names they go by here."""

    def __init__(self, tensors: Mapping[str, tuple[WeightSource, str]]) -> None:
        self._tensors = dict(tensors)
        sources = list({id(source): source for source, _ in self._tensors.values()}.values())
        self.names: Sequence[str] = sorted(self._tensors)
        self.files: tuple[Path, ...] = tuple(path for source in sources for path in source.files)
        self.num_bytes = sum(source.num_bytes for source in sources)
        self.types: Mapping[str, TensorType] = MappingProxyType(
            {
                name: source.types[there]
                for name, (source, there) in self._tensors.items()
                if there in source.types
            }
        )

    def describe(self, name: str) -> str:
        """Type and shape of a tensor as the file has it, for messages."""
        source, there = self._tensors[name]
        return source.describe(there)

    def locate(self, name: str) -> Path:
        """The file a tensor is in."""
        source, there = self._tensors[name]
        return source.locate(there)

    def read(self, name: str) -> Array:
        """A tensor's values, as its source gives them."""
        source, there = self._tensors[name]
        return source.read(there)
