"""What sampling knows of one sequence, and how its logits are edited before a token is chosen."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ...ir.errors import RequestError
from ..grammar.token_mask import TokenMask
from .dry import Repetitions
from .sampling_params import LogitsProcessor, SamplingParams
from .token_counts import TokenCounts

__all__ = ["SamplingState"]

Floats = npt.NDArray[np.float32]
TokenIds = npt.NDArray[np.int64]

_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.float32)


class SamplingState:
    """What sampling one sequence needs to know of it: parameters, random stream, tokens so far.

    Attributes:
        allowed_tokens: the tokens that a grammar allows next, as uint32 ``[ceil(vocab_size / 32)]`` with bit
            ``i % 32`` of word ``i // 32`` for token ``i``, llguidance's layout; ``None``: all. The engine
            sets it before each step.
    """

    def __init__(
        self,
        params: SamplingParams,
        *,
        seed: int,
        prompt_ids: Sequence[int],
        stop_ids: frozenset[int],
        token_bytes: Callable[[int], bytes],
    ) -> None:
        """Begin an answer.

        Args:
            params: of its request.
            seed: of its random stream.
            prompt_ids: the tokens it continues.
            stop_ids: the tokens that end it, which ``min_tokens`` suppresses.
            token_bytes: gives the bytes of a token, by which DRY finds its breakers.
        """
        self.params = params
        self.seed = seed
        self.num_generated = 0
        self.allowed_tokens: TokenMask | None = None
        self._counts = TokenCounts(prompt_ids) if params.counts_tokens else None
        self._repetitions = (
            Repetitions(params, prompt_ids, token_bytes) if params.counts_repetitions else None
        )
        self._suppressed = np.array(sorted(stop_ids) if params.min_tokens else [], dtype=np.int64)
        self._bias_ids = np.array(list(params.logit_bias), dtype=np.int64)
        self._biases = np.array(list(params.logit_bias.values()), dtype=np.float32)
        self._answer_ids: list[int] = []
        self.is_plain = params.is_greedy and not params.changes_logits and params.logprobs is None

    @property
    def suppressed(self) -> TokenIds:
        """The tokens that must not come yet."""
        return self._suppressed if self.num_generated < self.params.min_tokens else self._suppressed[:0]

    @property
    def counted(self) -> tuple[TokenIds, Floats]:
        """The tokens that penalties fall on, and how often the answer holds each."""
        return _NOTHING if self._counts is None else self._counts.pairs

    @property
    def repeated(self) -> tuple[TokenIds, Floats]:
        """The tokens that would go on with a repetition, and what is added to their logits for it."""
        if self._repetitions is None:
            return _NOTHING
        penalties = self._repetitions.penalties()
        ids = np.fromiter(penalties.keys(), np.int64, len(penalties))
        return ids, -np.fromiter(penalties.values(), np.float32, len(penalties))

    @property
    def biased(self) -> tuple[TokenIds, Floats]:
        """The tokens with a bias, and what that is."""
        return self._bias_ids, self._biases

    def record(self, token_id: int) -> None:
        """Take note of a generated token."""
        self.num_generated += 1
        if self._counts is not None:
            self._counts.add(token_id)
        if self._repetitions is not None:
            self._repetitions.add(token_id)
        if self.params.logits_processors:
            self._answer_ids.append(token_id)

    def edit(self, logits: Floats) -> None:
        """Apply penalties, bias and logits processors to float32 ``[vocab_size]``, in place.

        Raises:
            RequestError: a logits processor failed, or returned what are no logits.
        """
        if self._counts is not None:
            self._counts.penalize(logits, self.params)
        if self._repetitions is not None:
            self._repetitions.penalize(logits)
        if self._bias_ids.size:
            logits[self._bias_ids] += self._biases
        for processor in self.params.logits_processors:
            _process(processor, self._answer_ids, logits)


def _process(processor: LogitsProcessor, answer_ids: Sequence[int], logits: Floats) -> None:
    name = getattr(processor, "__qualname__", type(processor).__qualname__)
    try:
        result: object = processor(answer_ids, logits)
    except Exception as error:
        message = f"the logits processor {name} failed: {type(error).__name__}: {error}"
        raise RequestError(message, "logits_processors") from error
    if result is None:
        return
    if isinstance(result, np.ndarray) and result.shape == logits.shape and result.dtype == np.float32:
        np.copyto(logits, result)
        return
    kind = type(result).__name__
    if isinstance(result, np.ndarray):
        kind = f"an array of {result.dtype} {list(result.shape)}"
    message = (
        f"the logits processor {name} returned {kind}; it must edit the logits in place and return None, or "
        f"return an array of float32 {list(logits.shape)}"
    )
    raise RequestError(message, "logits_processors")
