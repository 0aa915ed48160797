"""Which tokens a sequence holds, and how often: what the penalties go by."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .sampling_params import SamplingParams

__all__ = ["TokenCounts"]


class TokenCounts:
    """The distinct tokens of a sequence with their counts in the answer; a new token costs O(1)."""

    def __init__(self, prompt_ids: Sequence[int]) -> None:
        distinct = dict.fromkeys(prompt_ids)
        self._slots = {token_id: slot for slot, token_id in enumerate(distinct)}
        self._ids = np.array(list(distinct), dtype=np.int64)
        self._counts = np.zeros(len(distinct), dtype=np.float32)

    def add(self, token_id: int) -> None:
        """Count a generated token."""
        slot = self._slots.get(token_id)
        if slot is None:
            slot = self._slots[token_id] = len(self._slots)
            if slot == len(self._ids):
                room = max(64, slot)
                self._ids = np.concatenate([self._ids, np.zeros(room, dtype=np.int64)])
                self._counts = np.concatenate([self._counts, np.zeros(room, dtype=np.float32)])
            self._ids[slot] = token_id
        self._counts[slot] += 1.0

    @property
    def pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The tokens, and their counts in the answer."""
        return self._ids[: len(self._slots)], self._counts[: len(self._slots)]

    def penalize(self, logits: npt.NDArray[np.float32], params: SamplingParams) -> None:
        """Apply the three penalties to float32 ``[vocab_size]``, in place.

        Repetition looks at prompt and answer, presence and frequency at the answer alone.
        """
        ids, counts = self.pairs
        values = logits[ids]
        if params.repetition_penalty != 1.0:
            penalty = np.float32(params.repetition_penalty)
            values = np.where(values > 0, values / penalty, values * penalty)
        values -= np.float32(params.frequency_penalty) * counts
        values -= np.float32(params.presence_penalty) * (counts > 0)
        logits[ids] = values
