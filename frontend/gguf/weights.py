"""The tensors of a model's GGUF files, by the names and in the shapes that its checkpoint has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ...ir.errors import WeightError
from ...ir.operator import Array
from ...ir.types import TensorType
from .architecture import Architecture
from .facts import Facts
from .joined_latents import JoinedLatents, join_latents
from .rope import FACTORS, LONG_FACTORS, SHORT_FACTORS
from .stored_tensor import StoredTensor, stored_tensor

__all__ = ["GgufWeights"]

_NAME = re.compile(r"blk\.(?P<layer>\d+)\.(?P<part>.+)")
_NUMBER = re.compile(r"\.(\d+)$")
_SUFFIXES = (".weight", ".bias")
_IN_CONFIG = frozenset({FACTORS, LONG_FACTORS, SHORT_FACTORS})
"""Tensors that are parameters of the rotary embedding, and no weights."""


class GgufWeights:
    """A :class:`~ingot.frontend.weights.WeightSource` of what a model's files hold.

    A tensor whose name the architecture does not know keeps the name it has in the file.
    """

    def __init__(
        self, facts: Facts, architecture: Architecture, *, num_heads: int, num_kv_heads: int
    ) -> None:
        stored: dict[str, StoredTensor] = {}
        owners = {name: file for file in facts.files for name in file.tensors}
        heads = {".q_proj.": num_heads, ".k_proj.": num_kv_heads} if architecture.permuted else {}
        for there, file in owners.items():
            if there in _IN_CONFIG:
                continue
            name = _translate(there, architecture)
            if name in stored:
                raise WeightError(f"{file.path}: '{there}' and '{stored[name].name}' are one tensor")
            permuted = next((count for part, count in heads.items() if part in name), 0)
            stored[name] = stored_tensor(file, there, name, permuted)
        self._tensors: Mapping[str, StoredTensor | JoinedLatents] = join_latents(stored)
        self.names: Sequence[str] = sorted(self._tensors)
        self.files: tuple[Path, ...] = tuple(file.path for file in facts.files)
        self.num_bytes = sum(file.num_bytes for file in facts.files)
        self.types: Mapping[str, TensorType] = MappingProxyType(
            {name: tensor.type for name, tensor in self._tensors.items() if tensor.type is not None}
        )

    def _find(self, name: str) -> StoredTensor | JoinedLatents:
        try:
            return self._tensors[name]
        except KeyError:
            raise WeightError(f"there is no tensor '{name}' in {', '.join(map(str, self.files))}") from None

    def describe(self, name: str) -> str:
        """Name, type and shape of a tensor as the file has it, for messages."""
        return str(self._find(name))

    def locate(self, name: str) -> Path:
        """The file a tensor is in."""
        return self._find(name).path

    def read(self, name: str) -> Array:
        """A tensor's values, a read-only view in the mapped file where nothing has to be reordered.

        Raises:
            WeightError: there is no such tensor, or it is of a type that cannot be read.
        """
        return self._find(name).read()


def _translate(there: str, architecture: Architecture) -> str:
    """What a checkpoint calls the tensor that a file calls ``there``."""
    found = _NAME.fullmatch(there)
    if found is None:
        return _look_up(there, architecture.outside) or there
    name = _look_up(found["part"], architecture.layer)
    return there if name is None else f"model.layers.{int(found['layer'])}.{name}"


def _look_up(part: str, names: Mapping[str, str]) -> str | None:
    if part in names:
        return names[part]
    for suffix in _SUFFIXES:
        stem = part.removesuffix(suffix)
        if stem == part:
            continue
        if stem in names:
            return names[stem] + suffix
        numbered = _NUMBER.sub(".{expert}", stem)
        if numbered in names and (number := _NUMBER.search(stem)) is not None:
            return names[numbered].replace("{expert}", number[1]) + suffix
    return None
