"""What a GGUF file says of its model's form, below the name of the architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...ir.errors import ConfigError
from .cursor import MetadataValue

__all__ = ["Hyperparameters"]

_INFORMATIVE = frozenset({"vocab_size", "tensor_data_layout", "rope.scaling.finetuned"})
"""What changes no result: the vocabulary's size is that of the embedding."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The metadata ``ARCHITECTURE.KEY`` by ``KEY``; what is asked for is taken note of.

    Every method raises :class:`ConfigError` where a value is not of its type, or is absent without a default.
    """

    path: Path
    architecture: str
    values: Mapping[str, MetadataValue]
    _asked: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, path: Path, metadata: Mapping[str, MetadataValue]) -> Hyperparameters:
        """Those of the architecture that the metadata names."""
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str):
            raise ConfigError(f"{path} does not say of what architecture it is ('general.architecture')")
        prefix = f"{architecture}."
        values = {
            key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)
        }
        return cls(path, architecture, values)

    def refuse(self, reason: str) -> ConfigError:
        """The error that says ``reason`` of this file, for the caller to raise."""
        return ConfigError(f"{self.path} ({self.architecture}): {reason}")

    def has(self, key: str) -> bool:
        """Whether there is such a value."""
        return key in self.values

    def _get(self, key: str) -> object:
        self._asked.add(key)
        return self.values.get(key)

    def _missing(self, key: str) -> ConfigError:
        return self.refuse(f"metadata '{self.architecture}.{key}' is missing")

    def integers(self, key: str, count: int) -> tuple[int, ...] | None:
        """A whole number for each of ``count`` layers, written once or for each; None where it is absent."""
        value = self._get(key)
        if value is None:
            return None
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
            numbers = tuple(int(number) for number in value)
            if len(numbers) != count:
                raise self.refuse(f"'{key}' has {len(numbers)} numbers for {count} layers")
            return numbers
        if type(value) is not int:
            raise self.refuse(f"'{key}' must be a whole number, not {value!r}")
        return (value,) * count

    def flags(self, key: str, count: int) -> tuple[bool, ...] | None:
        """True or false for each of ``count`` layers, or a number n for all but each n-th; None if absent."""
        value = self._get(key)
        if value is None:
            return None
        if isinstance(value, np.ndarray) and value.dtype.kind in "b?" and len(value) == count:
            return tuple(bool(flag) for flag in value)
        if type(value) is int and value > 0:
            return tuple((layer + 1) % value != 0 for layer in range(count))
        raise self.refuse(f"'{key}' must be true or false for each of {count} layers, not {value!r}")

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number; where it is written for each layer, it must be the same for all."""
        value = self._get(key)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size:
            if len(set(value.tolist())) > 1:
                raise self.refuse(f"'{key}' differs from layer to layer, which is not supported")
            value = int(value[0])
        if value is None:
            if default is None:
                raise self._missing(key)
            return default
        if type(value) is not int:
            raise self.refuse(f"'{key}' must be a whole number, not {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number, in the shortest decimal digits that a float32 of that value has."""
        value = self._get(key)
        if value is None:
            if default is None:
                raise self._missing(key)
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(f"'{key}' must be a number, not {value!r}")
        return float(str(np.float32(value)))

    def text(self, key: str, default: str) -> str:
        """A string."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.refuse(f"'{key}' must be a string, not {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(f"'{key}' must be true or false, not {value!r}")
        return value

    def expect_all_asked(self) -> None:
        """Raise for what nobody asked for although it says something: the result would be another one."""
        if not self.flag("attention.causal", True):
            raise self.refuse("attention that is not causal is not supported")
        for key, value in self.values.items():
            says_nothing = isinstance(value, bool | int | float | str) and not value
            if key not in self._asked and key not in _INFORMATIVE and not says_nothing:
                raise self.refuse(f"metadata '{self.architecture}.{key}' is not supported")
