"""Tokens chosen by an executor whose logits lie on a device, so that they need not be copied from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["TokenChooser", "TokenWish"]

Numbers = npt.NDArray[np.float32]
TokenIds = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TokenWish:
    """How a row's token is to be chosen, as plain numbers; what they do, :mod:`ingot.runtime.sampling` says.

    Attributes:
        row: of the step's logits.
        is_greedy: the likeliest is taken, and nothing drawn.
        temperature: what logits are divided by.
        top_k: 0: all.
        top_p: 1: all.
        min_p: 0: all.
        seed: of the sequence's random stream, a whole number of 64 bits.
        place: which of its tokens this is.
        allowed: a bit for each token that may come, uint32 ``[ceil(vocab_size / 32)]``; ``None``: all may.
        counted: tokens that penalties fall on, and how often the answer holds each.
        penalties: for repetition, frequency and presence.
        added: tokens, and what is added to their logits after that.
        biased: tokens, and what is added then.
        suppressed: tokens that must not come.
    """

    row: int
    is_greedy: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    place: int
    allowed: npt.NDArray[np.uint32] | None
    counted: tuple[TokenIds, Numbers]
    penalties: tuple[float, float, float]
    added: tuple[TokenIds, Numbers]
    biased: tuple[TokenIds, Numbers]
    suppressed: TokenIds

    @property
    def is_plain(self) -> bool:
        """The row's likeliest token is wanted, and nothing else."""
        return self.is_greedy and self.allowed is None and not self.num_edits

    @property
    def num_edits(self) -> int:
        """Logits that are changed before a token is chosen, each once a kind."""
        return sum(len(ids) for ids in (self.counted[0], self.added[0], self.biased[0], self.suppressed))


class TokenChooser(Protocol):
    """Chooses tokens of a step's logits, which are not changed."""

    def choose(self, wishes: Sequence[TokenWish]) -> Sequence[int | None]:
        """A token for each wish; ``None``: this one is for the host, as there are no numbers to choose by, or
        it asks for more than the device takes on.
        """
        ...
