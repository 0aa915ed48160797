"""Typed access to the fields of a ``config.json``; what does not fit is a sentence that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...ir.errors import ConfigError

__all__ = ["Fields"]

_MOST = (1 << 31) - 1
_LARGEST = 1e30
_MOST_OF: Mapping[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "num_nextn_predict_layers"), 1 << 12),
    **dict.fromkeys(("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 1 << 14),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 1 << 14),
}
"""The most there can be of what a graph is made of, whatever a file says."""

_LONGEST_VALUE = 200


def _shown(value: object) -> str:
    """A value as messages show it: not all of one that fills pages."""
    if isinstance(value, int) and abs(value) > 1 << 128:
        return "a number of many digits"
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one JSON object; ``where`` is how messages call it.

    A field that is absent takes its default; one that is ``null`` is ``None`` to :meth:`optional_integer` and
    counts as absent elsewhere. Every method raises :class:`ConfigError` where a field is not of its type, or
    is absent without a default.
    """

    values: Mapping[str, object]
    where: str = "config.json"

    def refuse(self, reason: str) -> ConfigError:
        """The error that says ``reason`` of this object, for the caller to raise."""
        return ConfigError(f"{self.where}: {reason}")

    def has(self, name: str) -> bool:
        """Whether the field is there and not ``null``."""
        return self.values.get(name) is not None

    def _required(self, name: str) -> ConfigError:
        return self.refuse(f"field '{name}' is missing")

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of at least ``least``."""
        value = self.values.get(name)
        if value is None:
            if default is None:
                raise self._required(name)
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.refuse(f"'{name}' must be a whole number of at least {least}, not {_shown(value)}")
        if value > (most := _MOST_OF.get(name, _MOST)):
            raise self.refuse(f"'{name}' must be a whole number of at most {most}, not {_shown(value)}")
        return value

    def optional_integer(self, name: str, default: int | None) -> int | None:
        """A positive whole number, or ``None`` where the field is ``null``; absent, it is ``default``."""
        if name in self.values and self.values[name] is None:
            return None
        return default if name not in self.values else self.integer(name)

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number."""
        value = self.values.get(name)
        if value is None:
            if default is None:
                raise self._required(name)
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LARGEST:
            raise self.refuse(f"'{name}' must be a positive number, not {_shown(value)}")
        return float(value)

    def optional_number(self, name: str, default: float | None = None) -> float | None:
        """A positive number, or ``None`` where the field is ``null``; absent, it is ``default``."""
        if name in self.values and self.values[name] is None:
            return None
        return default if name not in self.values else self.number(name)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(f"'{name}' must be true or false, not {_shown(value)}")
        return value

    def text(self, name: str, default: str) -> str:
        """A string."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.refuse(f"'{name}' must be a string, not {_shown(value)}")
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of strings, or ``None`` where the field is absent or ``null``."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.refuse(f"'{name}' must be a list of strings, not {_shown(value)}")
        return tuple(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of positive numbers."""
        value = self.values.get(name)
        if value is None:
            raise self._required(name)
        if not isinstance(value, list):
            raise self.refuse(f"'{name}' must be a list of positive numbers, not {_shown(value)}")
        return tuple(Fields({name: item}, self.where).number(name) for item in value)

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers of at least 0; none where the field is absent or ``null``."""
        value = self.values.get(name)
        values = [] if value is None else value
        if not isinstance(values, list) or not all(type(item) is int and item >= 0 for item in values):
            raise self.refuse(f"'{name}' must be a list of whole numbers, not {_shown(value)}")
        return tuple(values)

    def token_ids(self, name: str) -> tuple[int, ...]:
        """One token id or a list of them; none where the field is absent or ``null``."""
        value = self.values.get(name)
        values = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in values):
            raise self.refuse(f"'{name}' must be a token id or a list of them, not {_shown(value)}")
        return tuple(values)

    def object(self, name: str) -> Fields | None:
        """The fields of a nested object, or ``None`` where it is absent, ``null`` or empty."""
        value = self.values.get(name)
        if value is None or value == {}:
            return None
        if not isinstance(value, Mapping):
            raise self.refuse(f"'{name}' must be an object, not {_shown(value)}")
        return Fields(value, f"{self.where}, {name}")
