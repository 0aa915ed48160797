"""Whether a checkpoint's tensors are those an architecture asks for: all, no others, of the right shapes."""

from __future__ import annotations

import re
from collections.abc import Collection

from ...ir.errors import WeightError
from ...ir.quantization import QuantFormat
from ...ir.types import ScalarType, TensorType
from .source import WeightSource

__all__ = ["Fitting"]

_DERIVED = re.compile(r"(^|\.)rotary_emb\.inv_freq$")
"""Buffers that older checkpoints hold although they follow from the configuration."""

_MOST_NAMED = 3
_MOST_MISSING = 10_000


class Fitting:
    """Collects what an architecture asks for while its graph is made, then says all that is wrong at once.

    ``configuration`` is how messages call what says which tensors there should be.
    """

    def __init__(self, weights: WeightSource, configuration: str = "config.json") -> None:
        self._weights = weights
        self._configuration = configuration
        self._names = frozenset(weights.names)
        self._asked: set[str] = set()
        self._missing: list[str] = []
        self._misfits: list[str] = []

    def declare(self, name: str, shape: tuple[int, ...]) -> TensorType:
        """Ask for a tensor of ``shape``, of floats or in a quantization format.

        Returns its type, which is made up where the checkpoint has no such.
        """
        made_up = TensorType(shape, ScalarType.FLOAT32)
        self._asked.add(name)
        if name not in self._names:
            self._missing.append(name)
            if len(self._missing) > _MOST_MISSING:  # who asks for ever more gets no answer at the end
                self.finish()
            return made_up
        found = self._weights.types.get(name)
        if found is None or not (isinstance(found.element, QuantFormat) or found.element.is_float):
            self._misfit(name, "float32, float16 or bfloat16 is needed")
            return made_up
        if found.shape != shape:
            self._misfit(name, f"{self._configuration} asks for the shape [{', '.join(map(str, shape))}]")
            return made_up
        return found

    def holds(self, name: str) -> bool:
        """Whether the checkpoint has a tensor ``name``; it is not asked for yet."""
        return name in self._names

    def _misfit(self, name: str, reason: str) -> None:
        location = self._weights.locate(name)
        self._misfits.append(
            f"tensor '{name}' in {location} is {self._weights.describe(name)} where {reason}"
        )

    def finish(self, *, ignored: Collection[str] = (), ignored_below: tuple[str, ...] = ()) -> None:
        """Raise :class:`WeightError` for what is missing, does not fit, or was not asked for.

        Besides ``ignored``, what begins with any of ``ignored_below`` and buffers that older checkpoints hold
        are left over without complaint.
        """
        where = self._weights.files[0].parent
        if self._misfits:
            more = f" (and {len(self._misfits) - 1} more that do not fit)" if len(self._misfits) > 1 else ""
            raise WeightError(self._misfits[0] + more)
        extra = [
            name
            for name in self._weights.names
            if name not in self._asked
            and name not in ignored
            and not name.startswith(ignored_below)
            and not _DERIVED.search(name)
        ]
        missing = list(dict.fromkeys(self._missing))
        if missing:
            unasked = f", while it has {_listed(extra)} that the model has no place for" if extra else ""
            raise WeightError(f"the checkpoint in {where} lacks {_listed(missing)}{unasked}")
        if extra:
            raise WeightError(
                f"the checkpoint in {where} has {_listed(extra)} "
                f"that {self._configuration} gives no place for"
            )


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_MOST_NAMED])
    noun = "tensor" if len(names) == 1 else "tensors"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"the {noun} {shown}{more}"
