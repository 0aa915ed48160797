"""When tokens came, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean

import numpy as np

from ..engine.engine_stats import PhaseSeconds
from .records import Percentiles, StepShare

__all__ = ["Round", "Timeline", "mean_phases", "percentiles", "step_share"]

_PHASES = ("schedule", "execute", "sample", "grammar", "emit")


@dataclass(frozen=True, slots=True)
class Timeline:
    """One request: when it was started, and when chunks of so many tokens came, in seconds of one clock."""

    started: float
    arrivals: tuple[tuple[float, int], ...]

    @property
    def first(self) -> float:
        """When the first chunk came."""
        return self.arrivals[0][0]

    @property
    def last(self) -> float:
        """When the last chunk came."""
        return self.arrivals[-1][0]

    @property
    def first_token_delay(self) -> float:
        """Seconds to the first token."""
        return self.first - self.started

    @property
    def token_gaps(self) -> tuple[float, ...]:
        """Seconds between neighbouring tokens; those that came together share the time before them."""
        return tuple(
            (later - earlier) / count
            for (earlier, _), (later, count) in pairwise(self.arrivals)
            for _ in range(count)
        )

    def num_tokens(self, *, after: float, until: float) -> int:
        """Tokens that came in a time."""
        return sum(count for time, count in self.arrivals if after < time <= until)


@dataclass(frozen=True, slots=True)
class Round:
    """Requests that ran together, and the time that the phases of their steps took.

    Attributes:
        num_prompt_tokens: of each request.
        timelines: of each request.
        phases: the time of all steps.
        prefill: that of a step, on average, until each request had its first token.
        decode: that of a step, on average, from there on.
    """

    num_prompt_tokens: int
    timelines: tuple[Timeline, ...]
    phases: PhaseSeconds
    prefill: PhaseSeconds = field(default_factory=PhaseSeconds)
    decode: PhaseSeconds = field(default_factory=PhaseSeconds)

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens a second, from the first start until every request has its first token."""
        return len(self.timelines) * self.num_prompt_tokens / (self._prefilled - self._started)

    @property
    def decode_rate(self) -> float | None:
        """Tokens a second in steps that only decode.

        That is while all requests do, from the last first token to the end of the first answer, where there
        is such a time; else to the end of all answers. None where answers ended before.
        """
        prefilled, shortest = self._prefilled, min(self.timelines, key=lambda timeline: timeline.last)
        if shortest.last > prefilled:
            # Tokens of one step come microseconds apart: one request counts the steps for all.
            num_tokens = len(self.timelines) * shortest.num_tokens(after=prefilled, until=shortest.last)
            return num_tokens / (shortest.last - prefilled)
        if self._ended == prefilled:
            return None
        num_tokens = sum(line.num_tokens(after=prefilled, until=self._ended) for line in self.timelines)
        return num_tokens / (self._ended - prefilled)

    @property
    def output_rate(self) -> float:
        """Tokens of all answers a second, from the first start to the last end."""
        num_tokens = sum(count for line in self.timelines for _, count in line.arrivals)
        return num_tokens / (self._ended - self._started)

    @property
    def _started(self) -> float:
        return min(timeline.started for timeline in self.timelines)

    @property
    def _prefilled(self) -> float:
        return max(timeline.first for timeline in self.timelines)

    @property
    def _ended(self) -> float:
        return max(timeline.last for timeline in self.timelines)


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """The percentiles of at least one time, interpolated between neighbours, in milliseconds."""
    p50, p90, p99 = np.percentile(np.array(seconds) * 1e3, (50, 90, 99)).tolist()
    return Percentiles(p50, p90, p99)


def mean_phases(phases: Sequence[PhaseSeconds]) -> PhaseSeconds:
    """What each phase took on average."""
    return PhaseSeconds(**{name: mean(getattr(each, name) for each in phases) for name in _PHASES})


def step_share(phases: Sequence[PhaseSeconds]) -> StepShare | None:
    """What each phase had of the time of several rounds' steps; None where there was none."""
    seconds = {name: sum(getattr(each, name) for each in phases) for name in _PHASES}
    total = sum(seconds.values())
    return StepShare(**{name: spent / total for name, spent in seconds.items()}) if total > 0 else None
