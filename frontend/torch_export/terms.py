"""What a node of the trace is while it is converted, where it is no value of our graph yet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import torch

from ...ir.graph import Value

__all__ = [
    "HIDDEN",
    "SHAPELESS",
    "Ahead",
    "BestLogits",
    "Complex",
    "Empty",
    "Groups",
    "Kept",
    "Mask",
    "MaskForm",
    "Parameter",
    "Parts",
    "Positional",
    "Seen",
    "Term",
    "TokenIds",
    "Truth",
]


@dataclass(frozen=True, slots=True)
class TokenIds:
    """The input."""


@dataclass(frozen=True, slots=True)
class Positional:
    """``multiple * position + offset`` for each token; with ``multiple`` 0 one number for all."""

    multiple: int
    offset: float


HIDDEN = -9999.0
"""A score that weighs nothing beside those that are seen is at most this: some models add -10000."""


class MaskForm(Enum):
    """How a mask says what is seen: added to scores, 0 or -inf; or true, or 1, where seen or where hidden."""

    ADDED = "added"
    SEEN = "seen"
    HIDDEN = "hidden"

    @property
    def opposite(self) -> MaskForm:
        """The form of a mask of truth values when they are turned round."""
        return {MaskForm.SEEN: MaskForm.HIDDEN, MaskForm.HIDDEN: MaskForm.SEEN}[self]


@dataclass(frozen=True, slots=True)
class Mask:
    """The causal mask of a window, 0 where there is none."""

    window: int
    form: MaskForm = MaskForm.ADDED


@dataclass(frozen=True, slots=True)
class Seen:
    """Scores ``[heads, tokens, tokens]`` that are 0 where the causal mask of a window hides them."""

    scores: Value
    window: int


@dataclass(frozen=True, slots=True)
class Truth:
    """A truth value that is the same for all tokens."""

    value: bool


@dataclass(frozen=True, slots=True)
class Empty:
    """A tensor that nothing was written to yet."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A tensor that is written in part: along ``axis``, from where, to where, and what."""

    axis: int
    parts: tuple[tuple[int, int, Value], ...]


@dataclass(frozen=True, slots=True)
class Ahead:
    """More rows than there are tokens, of which those of the tokens are known and come first."""

    rows: Value


@dataclass(frozen=True, slots=True)
class Complex:
    """Complex numbers, their parts apart."""

    real: Value
    imaginary: Value


@dataclass(frozen=True, slots=True)
class Groups:
    """Something on the way to keep ``kept`` of ``groups`` groups of experts.

    Groups are judged by the ``terms`` best of their ``scores`` ``[tokens, experts]``.
    """

    scores: Value
    groups: int
    terms: int
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """Scores of experts of which those outside of the best groups do not count."""

    groups: Groups


@dataclass(frozen=True, slots=True)
class BestLogits:
    """The ``count`` largest logits of experts, which may become weights by their softmax."""

    logits: Value
    count: int
    experts: Value


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor of the model's, by its name there."""

    name: str


Term: TypeAlias = (
    "Value | torch.Tensor | TokenIds | Positional | Mask | Truth | Groups | Kept | BestLogits | Parameter"
    "| Ahead | Complex | Empty | Seen | Parts | tuple[Term, ...] | None"
)
"""A tensor of torch's is a constant: all that is known when the model is traced is computed by torch."""

SHAPELESS = (Positional, Mask, Truth, TokenIds, Groups, Empty)
"""Terms that stay what they are when their tensor is given another shape."""
