"""Requests that start at once, and the times at which their tokens come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from ..engine.engine_stats import EngineStats, PhaseSeconds
from ..engine.engine_thread import EngineThread
from ..engine.outputs import Chunk
from ..engine.request import Event, GenerateRequest, unexpected
from ..sampling.sampling_params import SamplingParams
from .timeline import Round, Timeline

__all__ = ["random_prompts", "run_round"]


def random_prompts(
    num_prompts: int, num_tokens: int, vocab_size: int, *, seed: Sequence[int]
) -> list[tuple[int, ...]]:
    """Prompts of random token ids, the same for the same seed; no two begin alike."""
    generator = np.random.default_rng(seed)
    return [tuple(generator.integers(0, vocab_size, num_tokens).tolist()) for _ in range(num_prompts)]


def run_round(engine: EngineThread, prompts: Sequence[tuple[int, ...]], num_output_tokens: int) -> Round:
    """Run prompts of one length together, greedily, to the same number of tokens each.

    Times are taken on the engine's thread as it hands out each chunk, so that nobody's waking up is in them.

    Raises:
        RequestError: a prompt and its answer do not fit the engine; nothing has run then.
        IngotError: a request failed.
    """
    params = SamplingParams(max_tokens=num_output_tokens, temperature=0.0, ignore_eos=True)
    requests = [GenerateRequest(prompt, params) for prompt in prompts]
    for request in requests:
        engine.check(request)
    watch = _Watch(engine, len(requests))
    before = engine.stats
    listeners = [_Listener(watch.hear_first) for _ in requests]
    for request, listener in zip(requests, listeners, strict=True):
        engine.submit(request, listener)
    timelines = tuple(listener.wait() for listener in listeners)
    prefilled, after = watch.prefilled or before, engine.stats
    return Round(
        len(prompts[0]),
        timelines,
        phases=_between(before, after),
        prefill=_between(before, prefilled, prefilled.num_steps - before.num_steps),
        decode=_between(prefilled, after, after.num_steps - prefilled.num_steps),
    )


def _between(before: EngineStats, after: EngineStats, num_steps: int = 1) -> PhaseSeconds:
    """The time that each phase had; of the last step's handing out only what was over when it was heard.

    It is that of a step, where there are several; zeros where there are none.
    """
    if num_steps == 0:
        return PhaseSeconds()
    return PhaseSeconds(
        schedule=(after.schedule_seconds - before.schedule_seconds) / num_steps,
        execute=(after.execute_seconds - before.execute_seconds) / num_steps,
        sample=(after.sample_seconds - before.sample_seconds) / num_steps,
        grammar=(after.grammar_seconds - before.grammar_seconds) / num_steps,
        emit=(after.emit_seconds - before.emit_seconds) / num_steps,
    )


class _Watch:
    """Takes the engine's counts as the last of some requests has its first token."""

    def __init__(self, engine: EngineThread, num_requests: int) -> None:
        self._engine = engine
        self._num_waiting = num_requests
        self.prefilled: EngineStats | None = None

    def hear_first(self) -> None:
        """A request has its first token; called on the engine's thread."""
        self._num_waiting -= 1
        if self._num_waiting == 0:
            self.prefilled = self._engine.stats


class _Listener:
    """Takes the events of one request; it is started when this is made."""

    def __init__(self, hear_first: Callable[[], None]) -> None:
        self._hear_first = hear_first
        self._started = time.perf_counter()
        self._arrivals: list[tuple[float, int]] = []
        self._failure: Event | None = None
        self._ended = threading.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Chunk):
            self._arrivals.append((time.perf_counter(), len(event.token_ids)))
            if len(self._arrivals) == 1:
                self._hear_first()
            if event.usage is None:
                return
        else:
            self._failure = event
        self._ended.set()

    def wait(self) -> Timeline:
        """Wait for the end; raises what made the request fail."""
        self._ended.wait()
        if self._failure is not None:
            raise unexpected(self._failure)
        return Timeline(self._started, tuple(self._arrivals))
