"""What an operator is: a name, the attributes it takes, the types of its results, its meaning in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from .errors import IRError
from .quantization import QuantizedArray
from .types import Dim, TensorType

if TYPE_CHECKING:
    from .graph import Value

__all__ = ["OPERATORS", "Array", "Attribute", "Operator", "find_operator", "operator"]

Attribute = bool | int | float | str | tuple[Dim, ...] | npt.NDArray[np.generic]
"""What an operator can be told besides its operands."""

Array = npt.NDArray[np.generic] | QuantizedArray
"""What a value is while the interpreter runs."""

Attributes = Mapping[str, Attribute]


class Infer(Protocol):
    """Types of the results from those of the operands; raises :class:`IRError` on a misfit."""

    def __call__(self, types: Sequence[TensorType], attributes: Attributes, /) -> tuple[TensorType, ...]: ...


class Evaluate(Protocol):
    """Results from operands, in numpy; ``symbols`` gives each symbolic dimension its number."""

    def __call__(
        self, operands: Sequence[Array], attributes: Attributes, symbols: Mapping[str, int], /
    ) -> tuple[Array, ...]: ...


@dataclass(frozen=True)
class Operator:
    """One operator. ``num_operands`` is the least and the most it takes (None: no limit).

    An attribute that has ``NoneType`` among its kinds may be left away.
    """

    name: str
    num_operands: tuple[int, int | None]
    attributes: Mapping[str, tuple[type, ...]]
    infer: Infer
    evaluate: Evaluate

    def check(self, operands: Sequence[Value], attributes: Attributes) -> None:
        """Raise :class:`IRError` where the operands' count or an attribute is not what it takes."""
        least, most = self.num_operands
        if len(operands) < least or (most is not None and len(operands) > most):
            span = (
                f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
            )
            raise IRError(f"{self.name} takes {span} operands, not {len(operands)}")
        needed = {key for key, kinds in self.attributes.items() if NoneType not in kinds}
        if missing := needed - attributes.keys():
            raise IRError(f"{self.name} needs attribute {', '.join(sorted(missing))}")
        for key, value in attributes.items():
            if key not in self.attributes:
                raise IRError(
                    f"{self.name} has no attribute '{key}'; it takes {', '.join(self.attributes) or 'none'}"
                )
            if not _is_of_kind(value, self.attributes[key]):
                kinds = [kind for kind in self.attributes[key] if kind is not NoneType]
                expected = " or ".join(kind.__name__ for kind in kinds)
                raise IRError(f"{self.name}: attribute {key} cannot be {value!r}; it is of kind {expected}")


def _is_of_kind(value: Attribute, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):  # Python counts a bool as an int
        return bool in kinds
    if isinstance(value, tuple):
        return tuple in kinds and all(type(dim) in (int, str) for dim in value)
    return isinstance(value, kinds)


OPERATORS: dict[str, Operator] = {}
"""Every operator by name; the modules of ``ir.operators`` fill it."""


def operator(
    name: str,
    infer: Infer,
    *,
    operands: int | tuple[int, int | None] = 1,
    **attributes: type | tuple[type, ...],
) -> Callable[[Evaluate], Evaluate]:
    """Register the decorated numpy function as the meaning of operator ``name``."""

    def register(evaluate: Evaluate) -> Evaluate:
        count = (operands, operands) if isinstance(operands, int) else operands
        kinds = {key: kind if isinstance(kind, tuple) else (kind,) for key, kind in attributes.items()}
        OPERATORS[name] = Operator(name, count, kinds, infer, evaluate)
        return evaluate

    return register


def find_operator(name: str) -> Operator:
    """The operator called ``name``; raises :class:`IRError` if there is none."""
    from . import operators  # noqa: F401  (fills the registry on first use)

    try:
        return OPERATORS[name]
    except KeyError:
        raise IRError(f"no operator '{name}'") from None
