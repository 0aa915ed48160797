"""DRY, "don't repeat yourself": a penalty on tokens that would go on with something said before.

Where the last ``length`` tokens stand earlier in the context too, the token that came next there gets
``multiplier * base ** (length - allowed_length)`` taken from its logit. The method is p-e-w's (pull request
5677 of text-generation-webui), with the prompt as part of the context, as in llama.cpp. A repetition does not
reach back over a sequence breaker, and a token that holds a breaker is never penalized.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from .sampling_params import SamplingParams

__all__ = ["Repetitions"]

_MAX_PENALTY = 1e30
"""Enough to rule a token out, and within float32."""
_SCANNED_TOKENS = 256


class Repetitions:
    """The repetitions that end at a sequence's last token.

    They are carried along: an earlier token ends a repetition of ``length`` tokens if it is like the last one
    and its predecessor ended one of ``length - 1`` before. So a token costs one comparison with the context
    and some work for each of its earlier occurrences.
    """

    def __init__(
        self, params: SamplingParams, prompt_ids: Sequence[int], token_bytes: Callable[[int], bytes]
    ) -> None:
        self._params = params
        self._token_bytes = token_bytes
        self._breakers = tuple(text.encode("utf-8", "surrogatepass") for text in params.dry_sequence_breakers)
        self._tail_length = max((len(breaker) for breaker in self._breakers), default=1) - 1
        self._num_tokens = len(prompt_ids)
        self._ids = np.array(prompt_ids, dtype=np.int64)
        # At each earlier place, how many tokens up to it are the same as those up to the last.
        self._lengths = np.array(_common_suffixes(prompt_ids), dtype=np.int64)
        self._ends = np.flatnonzero(self._lengths)
        self._num_unbroken, self._tail = self._since_breaker(prompt_ids)

    def add(self, token_id: int) -> None:
        """Take note of a generated token."""
        if self._num_tokens == len(self._ids):
            room = np.zeros(max(64, self._num_tokens), dtype=np.int64)
            self._ids = np.concatenate([self._ids, room])
            self._lengths = np.concatenate([self._lengths, room])
        ends = np.flatnonzero(self._ids[: self._num_tokens] == token_id)
        lengths = np.where(ends > 0, self._lengths[ends - 1], 0) + 1
        self._lengths[self._ends] = 0
        self._lengths[ends] = lengths
        self._ends = ends
        self._ids[self._num_tokens] = token_id
        self._num_tokens += 1
        is_break, self._tail = self._read(self._tail, token_id)
        self._num_unbroken = 0 if is_break else self._num_unbroken + 1

    def penalize(self, logits: npt.NDArray[np.float32]) -> None:
        """Apply the penalty to float32 ``[vocab_size]``, in place."""
        for token_id, penalty in self.penalties().items():
            logits[token_id] -= np.float32(penalty)

    def penalties(self) -> dict[int, float]:
        """What is taken from the logits of which tokens."""
        params = self._params
        window = self._num_tokens if params.dry_penalty_last_n is None else params.dry_penalty_last_n
        start = max(0, self._num_tokens - window)
        ends = self._ends[self._ends >= start]
        lengths = np.minimum(np.minimum(self._lengths[ends], ends - start + 1), self._num_unbroken)
        repeated = lengths >= params.dry_allowed_length
        if not repeated.any():
            return {}
        longest: dict[int, int] = {}
        pairs = zip(self._ids[ends[repeated] + 1].tolist(), lengths[repeated].tolist(), strict=True)
        for token_id, length in pairs:
            longest[token_id] = max(length, longest.get(token_id, 0))
        return {
            token_id: self._penalty(length)
            for token_id, length in longest.items()
            if not self._ends_breaker(self._token_bytes(token_id))
        }

    def _penalty(self, length: int) -> float:
        params = self._params
        try:
            grown = params.dry_base ** (length - params.dry_allowed_length)
        except OverflowError:
            return _MAX_PENALTY
        return min(params.dry_multiplier * grown, _MAX_PENALTY)

    def _ends_breaker(self, text: bytes, num_before: int = 0) -> bool:
        """Whether a breaker ends in ``text`` past its first ``num_before`` bytes."""
        return any(
            text.find(breaker, max(0, num_before - len(breaker) + 1)) >= 0 for breaker in self._breakers
        )

    def _read(self, tail: bytes, token_id: int) -> tuple[bool, bytes]:
        """Whether a breaker ends in a token that follows ``tail``, and the tail that the next one follows:
        as much of the text as can begin a breaker that ends there.
        """
        text = tail + self._token_bytes(token_id)
        next_tail = text[-self._tail_length :] if self._tail_length else b""
        return self._ends_breaker(text, len(tail)), next_tail

    def _since_breaker(self, token_ids: Sequence[int]) -> tuple[int, bytes]:
        """How many tokens there are after the one that ends the last breaker, and the text's last bytes."""
        num_tokens = len(token_ids)
        # In ever larger pieces from the end, as the last breaker is mostly near it.
        num_scanned = _SCANNED_TOKENS
        while True:
            tail, num_unbroken, is_broken = b"", 0, False
            for token_id in token_ids[max(0, num_tokens - num_scanned) :]:
                is_break, tail = self._read(tail, token_id)
                num_unbroken = 0 if is_break else num_unbroken + 1
                is_broken |= is_break
            if is_broken or num_scanned >= num_tokens:
                return num_unbroken, tail
            num_scanned *= 4


def _common_suffixes(token_ids: Sequence[int]) -> list[int]:
    """For each place but the last, how many tokens up to it are the same as those up to the last; there, 0.

    This is the Z-algorithm (Gusfield, 1997), read backwards; each token is compared at most twice.
    """
    num_tokens = len(token_ids)
    lengths = [0] * num_tokens
    last = num_tokens - 1
    # The repetition that reaches furthest back: from `near` places before the last one to before `far`.
    near = far = 0
    for distance in range(1, num_tokens):
        length = min(lengths[last - (distance - near)], far - distance) if distance < far else 0
        while (
            distance + length < num_tokens and token_ids[last - distance - length] == token_ids[last - length]
        ):
            length += 1
        lengths[last - distance] = length
        if distance + length > far:
            near, far = distance, distance + length
    return lengths
