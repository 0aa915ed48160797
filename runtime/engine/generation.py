"""One answer in the making: from sampled tokens to chunks of text, up to its end."""

from collections.abc import Iterable, Sequence

from ..execution.model_info import ModelInfo
from ..sampling.random_stream import derive_seed
from ..sampling.sampler import RawLogprobs, Sampled, SamplingState
from ..text.stop_strings import StopStrings
from ..text.tokenizer import Tokenizer
from .outputs import Chunk, FinishReason, TokenLogprob
from .request import GenerateRequest

__all__ = ["Generation"]


class Generation:
    """One of a request's choices.

    ``sampling`` is what the sampler reads and ``grammar`` where the answer stands in its grammar, if it has
    one; :meth:`accept` takes the token into both. ``stop_ids`` end it, and so do ``max_tokens``.
    """

    def __init__(
        self,
        request: GenerateRequest,
        *,
        index: int,
        seed: int,
        tokenizer: Tokenizer,
        info: ModelInfo,
        max_seq_len: int,
    ) -> None:
        params = request.params
        eos_ids = frozenset[int]() if params.ignore_eos else info.eos_token_ids
        self.stop_ids = eos_ids | frozenset(params.stop_token_ids)
        self._eos_ids = eos_ids
        self.params = params
        self._index = index
        self._tokenizer = tokenizer
        self._detokenizer = tokenizer.detokenizer(
            request.token_ids, skip_special_tokens=params.skip_special_tokens
        )
        self._stop_strings = StopStrings(params.stop_strings)
        room = max_seq_len - len(request.token_ids)
        self.max_tokens = room if params.max_tokens is None else min(room, params.max_tokens)
        self._pending_ids: list[int] = []
        self._pending_logprobs: list[TokenLogprob] = []
        self.grammar = None if request.grammar is None else request.grammar.start()
        self._may_end_by_text = bool(params.stop_strings) or self.grammar is not None
        self.sampling = SamplingState(
            params,
            seed=derive_seed(seed, index),
            prompt_ids=request.token_ids,
            stop_ids=self.stop_ids,
            token_bytes=tokenizer.token_bytes,
        )

    @property
    def num_generated(self) -> int:
        """Tokens of the answer so far."""
        return self.sampling.num_generated

    def goes_on_after(self, token_id: int) -> bool:
        """Whether it is known without a look at the text that the answer does not end with this token."""
        if self._may_end_by_text or token_id in self.stop_ids:
            return False
        return self.sampling.num_generated + 1 < self.max_tokens

    def accept(self, sampled: Sampled) -> Chunk | None:
        """Take the next token; return what can be shown now, if anything.

        The answer has ended where the chunk has a ``finish_reason``.

        Raises:
            IngotError: the grammar has become too complex to be followed.
        """
        token_id = sampled.token_id
        if self.grammar is not None:
            self.grammar.accept(token_id)
        self.sampling.record(token_id)
        self._pending_ids.append(token_id)
        if sampled.logprobs is not None:
            self._pending_logprobs.append(self._token_logprob(token_id, sampled.logprobs))
        # The sampler gives none of these before min_tokens.
        if token_id in self.stop_ids:
            return self._end("stop", "", None if token_id in self._eos_ids else token_id)
        text, stop = self._match(self._detokenizer.push(token_id))
        if stop is not None:
            return self._chunk(text, "stop", stop)
        # Nothing can follow but the end, which need not be waited for.
        if self.grammar is not None and self.grammar.must_end:
            return self._end("stop", text)
        if self.num_generated >= self.max_tokens:
            return self._end("length", text)
        return self._chunk(text) if text else None

    def abort(self) -> Chunk:
        """End the answer with what there is."""
        return self._end("abort", "")

    def end_empty(self) -> Chunk:
        """End an answer that was to have no tokens."""
        return self._end("length", "")

    def prompt_logprobs(self, prompt_ids: Sequence[int], entries: Iterable[RawLogprobs]) -> Chunk:
        """Return the chunk that tells of the prompt's own tokens, by the entries of all but the first."""
        named = [
            self._token_logprob(token_id, raw) for token_id, raw in zip(prompt_ids[1:], entries, strict=True)
        ]
        return Chunk(self._index, "", (), prompt_logprobs=(None, *named))

    def _match(self, text: str) -> tuple[str, str | None]:
        if self.num_generated < self.params.min_tokens:
            return text, None
        return self._stop_strings.push(text)

    def _end(self, reason: FinishReason, text: str, stop_reason: int | None = None) -> Chunk:
        rest, stop = self._match(self._detokenizer.flush())
        if stop is not None:
            return self._chunk(text + rest, "stop", stop)
        return self._chunk(text + rest + self._stop_strings.flush(), reason, stop_reason)

    def _chunk(
        self, text: str, reason: FinishReason | None = None, stop_reason: str | int | None = None
    ) -> Chunk:
        logprobs = None if self.params.logprobs is None else tuple(self._pending_logprobs)
        chunk = Chunk(self._index, text, tuple(self._pending_ids), reason, stop_reason, logprobs)
        self._pending_ids.clear()
        self._pending_logprobs.clear()
        return chunk

    def _token_logprob(self, token_id: int, raw: RawLogprobs) -> TokenLogprob:
        top = tuple(self._named(top_id, logprob) for top_id, logprob in raw.top)
        return self._named(token_id, raw.chosen, top)

    def _named(self, token_id: int, logprob: float, top: Iterable[TokenLogprob] = ()) -> TokenLogprob:
        return TokenLogprob(
            token_id,
            self._tokenizer.token_text(token_id),
            self._tokenizer.token_bytes(token_id),
            logprob,
            tuple(top),
        )
