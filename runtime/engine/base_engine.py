"""What the synchronous and the asynchronous engine share: loading, and requests from what callers give."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from ...ir.errors import ArtifactError, CapacityError, RequestError
from ...targets.devices import DEVICES
from ...targets.sizes import parse_size_or_auto
from ..execution.model_info import ModelInfo
from ..grammar.compiler import CompiledGrammar, GrammarCompiler
from ..sampling.sampling_params import SamplingParams
from ..scheduling.limits import Limits
from ..scheduling.step import Executor
from ..scheduling.vectors import VectorExecutor, VectorInput
from ..text.tokenizer import Tokenizer, TypedTokens
from .engine_stats import EngineStats
from .engine_thread import EngineThread
from .loading import load
from .request import GenerateRequest, ScoreRequest, VectorRequest

__all__ = ["BaseEngine", "Message", "Prompt", "artifact_path"]

# Below so many characters a text is encoded at once.
_LONG_TEXT = 65_536

Message: TypeAlias = Mapping[str, Any]
"""One message of a conversation in OpenAI's form: ``{"role": "user", "content": "hi"}``."""

Prompt: TypeAlias = str | Sequence[int] | Sequence[Message]
"""A text, token ids, or a conversation for the model's chat template."""


class BaseEngine:
    """Holds the model, and the one thread that runs it."""

    compile_model: ClassVar[Callable[[str], Path] | None] = None
    """Makes an artifact of what is not one. The package's root sets it, here and so for both engines: the
    runtime knows no compiler."""

    tool_dialect: str | None = None
    """How the model writes calls of tools, by a name that conversations know; ``None``: as its chat template
    teaches."""

    reasoning_marks: str | None = None
    """How it marks its reasoning, likewise; ``"none"``: not at all."""

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        max_num_seqs: int = 16,
        max_num_batched_tokens: int = 512,
        kv_memory: str | int | None = "1GiB",
        max_seq_len: int | None = None,
        max_queued_requests: int | None = None,
        prefix_caching: bool = True,
        device: str = "auto",
    ) -> None:
        """Load a model.

        Args:
            model: an artifact folder, or whatever :attr:`compile_model` makes one of.
            max_num_seqs: most sequences that run at once; further ones wait.
            max_num_batched_tokens: most tokens computed in a step; longer prompts run in several.
            kv_memory: memory for keys and values, in bytes or as ``"2GiB"``; ``"auto"`` or ``None``: what is
                of use, or of a GPU's memory most of what all else leaves, of a CPU's half.
            max_seq_len: a tighter limit on prompt and answer together than the model's own.
            max_queued_requests: most requests that wait to be started, further ones are refused; ``None``:
                any number.
            prefix_caching: keep keys and values for later prompts that begin with the same tokens, until
                their memory is needed.
            device: where it runs: ``cpu``, ``cuda``, ``metal`` and, for models of the ONNX backend,
                ``coreml`` or ``webgpu``; ``auto``: the best that artifact and machine have.

        Raises:
            RequestError: a limit makes no sense, or there is no such device.
            ArtifactError: the artifact cannot be used, or the path is none and nothing can compile it.
        """
        ask = _Limits(max_num_seqs, max_num_batched_tokens, max_seq_len, max_queued_requests, prefix_caching)
        num_kv_bytes = parse_size_or_auto(kv_memory, name="kv_memory")
        if device not in DEVICES:
            raise RequestError(f"no device {device!r}; there are {', '.join(DEVICES)}", "device")
        loaded = load(
            artifact_path(model, type(self).compile_model),
            kv_memory=num_kv_bytes,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            device=device,
        )
        self._start(loaded.executor, loaded.tokenizer, loaded.info, ask)

    @classmethod
    def from_executor(
        cls,
        executor: Executor | VectorExecutor,
        tokenizer: Tokenizer,
        info: ModelInfo,
        *,
        max_num_seqs: int = 16,
        max_num_batched_tokens: int = 512,
        max_seq_len: int | None = None,
        max_queued_requests: int | None = None,
        prefix_caching: bool = True,
    ) -> Self:
        """Make an engine on an executor at hand; :meth:`close` closes it."""
        ask = _Limits(max_num_seqs, max_num_batched_tokens, max_seq_len, max_queued_requests, prefix_caching)
        engine = cls.__new__(cls)
        engine._start(executor, tokenizer, info, ask)
        return engine

    def _start(
        self, executor: Executor | VectorExecutor, tokenizer: Tokenizer, info: ModelInfo, ask: "_Limits"
    ) -> None:
        self._limits = ask.within(min(info.max_seq_len, executor.max_seq_len))
        self._info = info
        self._tokenizer = tokenizer
        self._grammars = GrammarCompiler(tokenizer, executor.vocab_size, info.eos_token_ids)
        self._thread = EngineThread(executor, tokenizer, info, self._limits)
        # An engine that is dropped or left open at exit still ends its thread and frees the device.
        weakref.finalize(self, self._thread.close)

    @property
    def info(self) -> ModelInfo:
        """The model's name and facts."""
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer and chat templates."""
        return self._tokenizer

    @property
    def limits(self) -> Limits:
        """What this engine can take at once, and the longest sequence."""
        return self._limits

    @property
    def stats(self) -> EngineStats:
        """Counts as of the last step: sequences running and waiting, pages, tokens so far."""
        return self._thread.stats

    @property
    def refusal(self) -> str | None:
        """Why no further request is taken: draining, closed or failed; ``None``: requests are taken."""
        return self._thread.refusal

    def encode(self, prompt: Prompt) -> list[int]:
        """Return a prompt's token ids: of a text with its beginning-of-sequence token, of a conversation
        through the chat template, of ids as they are.

        Raises:
            RequestError: the prompt is none of these, or the template refuses the conversation.
        """
        if isinstance(prompt, str):
            return self.encode_text(prompt)
        if _is_conversation(prompt):
            return self.encode_chat(prompt)
        return list(_checked_ids(prompt))

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        chat_template: str | None = None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Return the token ids of a conversation, written out by the model's chat template.

        Args:
            messages: the conversation.
            tools: functions the model may call, in OpenAI's form.
            add_generation_prompt: end with the beginning of the assistant's turn.
            chat_template: the name of one of the model's templates, or a template's text.
            template_variables: further variables for the template.

        Raises:
            RequestError: the model has no template, or it refuses the conversation.
        """
        text = self._tokenizer.render_chat(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            chat_template=chat_template,
            template_variables=template_variables,
        )
        return self.encode_text(text, add_special_tokens=False)

    def encode_text(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return a text's token ids, by default with what the model wants at its beginning.

        Raises:
            RequestError: it is not text that UTF-8 can hold.
            CapacityError: it is far longer than any sequence that fits; it is not even encoded, which for
                megabytes takes seconds and gigabytes.
        """
        self._check_not_huge(text)
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def _check_not_huge(self, text: str) -> None:
        """Raise :class:`CapacityError` for a text that need not be encoded to be too long."""
        if len(text) > _LONG_TEXT:
            num_tokens = self._tokenizer.fewest_tokens(text)
            if num_tokens > self._limits.max_seq_len:
                raise CapacityError(
                    f"the prompt has {len(text)} characters, which are at least {num_tokens} tokens, but the "
                    f"longest sequence is {self._limits.max_seq_len}",
                    "prompt",
                )

    def encode_inputs(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        prompt_name: str | None = None,
        truncate: bool = False,
    ) -> list[list[int]]:
        """Return the token ids of what embeddings are wanted of, with all special tokens the model wants.

        Args:
            prompts: texts, or token ids, which are taken as they are.
            prompt_name: which of the model's prompts to put before each text; ``None``: its default, if any.
            truncate: cut off the end of what is longer than the longest sequence.

        Raises:
            RequestError: a prompt is neither, the model has no prompt of that name, or gives no embeddings.
            CapacityError: a text is far too long, as for :meth:`encode_text`.
        """
        if self._info.task != "embed":
            raise self._info.refuse("embed")
        limit = self._limits.max_seq_len if truncate else None
        before = self._prompt(prompt_name)
        encoded: list[list[int]] = []
        for prompt in prompts:
            if isinstance(prompt, str):
                encoded.append(list(self._encode_whole(before + prompt, None, limit).token_ids))
            else:
                encoded.append(list(_checked_ids(prompt))[:limit])
        return encoded

    def encode_pairs(
        self, query: str, documents: Sequence[str], *, truncate: bool = False
    ) -> list[VectorInput]:
        """Return the tokens of a query beside each document, as a model that ranks takes them.

        Args:
            query: the query.
            documents: the documents.
            truncate: cut off the end of the longer of both, where they are longer than the longest sequence.

        Raises:
            RequestError: a text is none, or the model is not one that ranks.
            CapacityError: a text is far too long, as for :meth:`encode_text`.
        """
        if self._info.task != "rerank":
            raise self._info.refuse("rerank")
        limit = self._limits.max_seq_len if truncate else None
        pairs = [self._encode_whole(query, document, limit) for document in documents]
        return [VectorInput(pair.token_ids, pair.token_types) for pair in pairs]

    def _encode_whole(self, text: str, pair: str | None, limit: int | None) -> TypedTokens:
        if limit is None:
            for part in (text, pair or ""):
                self._check_not_huge(part)
        return self._tokenizer.encode_whole(text, pair, max_tokens=limit)

    def compile_grammar(self, params: SamplingParams) -> CompiledGrammar | None:
        """Return the grammar that an answer with these parameters must follow, if any.

        It takes from a millisecond to seconds, and nothing the next time: who must not wait, as in an event
        loop, calls this on another thread before making the request. The vocabulary is read at the first one.

        Raises:
            RequestError: the grammar is malformed, or asks for what cannot be enforced.
        """
        spec = params.structured_output
        return None if spec is None else self._grammars.compile(spec)

    def warm_grammars(self) -> None:
        """Read the vocabulary now, so that the first structured answer need not wait for it.

        Raises:
            RequestError: the tokenizer is of a kind for which there are no grammars.
        """
        self._grammars.warm()

    def _generate_request(
        self,
        token_ids: Sequence[int],
        params: SamplingParams | None,
        *,
        priority: int = 0,
        cache_salt: str = "",
    ) -> GenerateRequest:
        """Raise what is wrong with a request before it is submitted; see :meth:`EngineThread.check`."""
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise RequestError(f"priority must be an integer, not {priority!r}", "priority")
        params = SamplingParams() if params is None else params
        grammar = self.compile_grammar(params)
        request = GenerateRequest(tuple(token_ids), params, priority, cache_salt, grammar)
        self._thread.check(request)
        return request

    def _embed_request(self, prompts: Sequence[Sequence[int]]) -> VectorRequest:
        if self._info.task != "embed":
            raise self._info.refuse("embed")
        return self._vector_request([VectorInput(tuple(_checked_ids(prompt))) for prompt in prompts])

    def _vector_request(self, inputs: Sequence[VectorInput]) -> VectorRequest:
        request = VectorRequest(tuple(inputs))
        self._thread.check(request)
        return request

    def _scores(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What a model that ranks says of its inputs, from its vectors ``[n, 1]``: float32 ``[n]``."""
        scores = vectors[:, 0]
        if self._info.vectors is not None and self._info.vectors.is_probability:
            return np.asarray(
                0.5 * (1 + np.tanh(0.5 * scores)), np.float32
            )  # the sigmoid, which overflows nowhere
        return scores

    def _prompt(self, name: str | None) -> str:
        """The text to put before others."""
        vectors = self._info.vectors
        prompts = {} if vectors is None else vectors.prompts
        if name is None:
            name = None if vectors is None else vectors.default_prompt
        if name is None:
            return ""
        if name not in prompts:
            known = ", ".join(sorted(prompts)) or "none"
            raise RequestError(f"the model has no prompt named {name!r}; it has: {known}", "prompt_name")
        return prompts[name]

    def _score_request(self, token_ids: Sequence[int]) -> ScoreRequest:
        request = ScoreRequest(tuple(_checked_ids(token_ids)))
        self._thread.check(request)
        return request


def artifact_path(model: str | PathLike[str], compile_model: Callable[[str], Path] | None) -> Path:
    """The artifact folder that ``model`` is, or that ``compile_model`` makes of it.

    Raises :class:`ArtifactError` where it is none and nothing can compile it.
    """
    path = Path(model)
    if (path / "manifest.json").is_file():
        return path
    if compile_model is None:
        raise ArtifactError(f"{path} is not an artifact: it holds no manifest.json; compile the model first")
    return compile_model(fspath(model))


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a caller asks for, before a model is there."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_seq_len: int | None
    max_queued_requests: int | None
    prefix_caching: bool

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_seq_len", "max_queued_requests"):
            value = getattr(self, name)
            is_optional = name in ("max_seq_len", "max_queued_requests")
            if value is None and is_optional:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise RequestError(f"{name} must be a positive integer, not {value!r}", name)
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise RequestError(
                f"max_num_batched_tokens is {self.max_num_batched_tokens}, but each of "
                f"max_num_seqs={self.max_num_seqs} sequences needs one token a step",
                "max_num_batched_tokens",
            )

    def within(self, max_seq_len: int) -> Limits:
        """Return the limits for a model that runs sequences of up to ``max_seq_len`` tokens."""
        return Limits(
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_seq_len=max_seq_len if self.max_seq_len is None else min(max_seq_len, self.max_seq_len),
            max_queued_requests=self.max_queued_requests,
            caches_prefixes=self.prefix_caching,
        )


def _is_conversation(prompt: Sequence[int] | Sequence[Message]) -> TypeGuard[Sequence[Message]]:
    return isinstance(prompt, Sequence) and len(prompt) > 0 and isinstance(prompt[0], Mapping)


def _checked_ids(prompt: object) -> Sequence[int]:
    if not isinstance(prompt, Sequence) or isinstance(prompt, str | bytes):
        raise RequestError(
            f"a prompt must be text, token ids or messages, not {type(prompt).__name__}", "prompt"
        )
    for token_id in prompt:
        if isinstance(token_id, bool) or not isinstance(token_id, int):
            raise RequestError(f"a prompt of token ids may not hold {token_id!r}", "prompt")
    return prompt
