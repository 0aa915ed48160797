"""The asynchronous engine: what the HTTP server stands on."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .base_engine import BaseEngine, Message, Prompt
from .outputs import Chunk, RequestOutput
from .sampling_params import SamplingParams

__all__ = ["AsyncEngine"]


class AsyncEngine(BaseEngine):
    """The engine for an event loop; it only passes messages to the engine thread and back.

    ::

        async with AsyncEngine("model.ingot") as engine:
            async for chunk in engine.stream("Once upon a time", SamplingParams(max_tokens=64)):
                print(chunk.text, end="")
    """

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, request_id: str | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Answer one prompt chunk by chunk.

        Not a coroutine: what is wrong with the request is raised by this call, before anything runs.
        Closing the generator, or cancelling who waits on it, aborts the request and frees its pages.

        Args:
            prompt: text, token ids, or the messages of a conversation.
            params: how to sample.
            request_id: a name for :meth:`abort`, unique among the requests in flight.

        Raises:
            RequestError: the prompt or a parameter is wrong.
            CapacityError: the prompt can never fit.
            IngotError: the engine is closed or draining; while iterating: the executor failed.
        """
        raise NotImplementedError

    async def generate(
        self, prompt: Prompt, params: SamplingParams | None = None, *, request_id: str | None = None
    ) -> RequestOutput:
        """Answer one prompt whole; cancelling it aborts the request. Raises as :meth:`stream` does."""
        raise NotImplementedError

    async def chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_variables: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> RequestOutput:
        """Answer a conversation whole; see :meth:`encode_chat`, whose token ids :meth:`stream` takes."""
        raise NotImplementedError

    async def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return float32 ``[len(token_ids), vocab_size]``: the log-probabilities after each token."""
        raise NotImplementedError

    def abort(self, request_id: str) -> None:
        """End a request early: its choices finish with ``"abort"``. An unknown name is no error."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Take no further requests and wait until those in flight have ended."""
        raise NotImplementedError

    async def close(self) -> None:
        """Abort what still runs and release the model. A second call does nothing."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
