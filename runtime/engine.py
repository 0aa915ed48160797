"""The synchronous engine: whole answers, streams and scores for a script."""

import queue
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from ..ir.errors import RequestError
from .base_engine import BaseEngine, Message, Prompt
from .collector import Collector
from .outputs import Chunk, RequestOutput
from .request import Event, Failure, GenerateRequest, Request, Scores
from .sampling_params import SamplingParams

__all__ = ["Engine"]


class Engine(BaseEngine):
    """Answers from one model; several threads may share it, and all their requests run together.

    ::

        with Engine("model.ingot") as engine:
            out = engine.generate("Once upon a time", SamplingParams(max_tokens=64, temperature=0.0))
            print(out.text)
    """

    @overload
    def generate(self, prompts: str | Sequence[int], params: SamplingParams | None = None) -> RequestOutput: ...
    @overload
    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]: ...
    def generate(
        self,
        prompts: str | Sequence[int] | Sequence[str | Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> RequestOutput | list[RequestOutput]:
        """Answer one prompt, or a list of them together.

        Args:
            prompts: a text, token ids, or a list of such; a list gives a list, in its order.
            params: for all prompts, or one for each.

        Raises:
            RequestError: a prompt or parameter is wrong; nothing has run then.
            CapacityError: a prompt can never fit.
            IngotError: the engine is closed, or the executor failed.
        """
        raise NotImplementedError

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> Iterator[Chunk]:
        """Answer one prompt chunk by chunk; closing the iterator aborts the request.

        What is wrong with the request is raised here and not at the first chunk; see :meth:`generate`.
        """
        raise NotImplementedError

    def chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> RequestOutput:
        """Answer a conversation, written out by the model's chat template; see :meth:`encode_chat`."""
        raise NotImplementedError

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return float32 ``[len(token_ids), vocab_size]``: the log-probabilities after each token."""
        raise NotImplementedError

    def close(self) -> None:
        """Abort what still runs and release the model. A second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
