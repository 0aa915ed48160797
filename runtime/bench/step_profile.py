"""Where the time of a step goes, and how near each kind of work is to the limit that binds it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import numpy as np

from ...targets.manifest import LibraryRecord
from ..engine.engine_stats import PhaseSeconds
from ..execution.artifact import Artifact
from ..scheduling.step import LogitRows, SequenceChunk, Step
from .model_work import Arithmetic, ModelWork
from .records import GroupRecord, HostRecord, StepProfile
from .step_calls import KernelCall, RecordingExecutor, RecordingTvmExecutor
from .step_work import CallWork, Group, StepWork

__all__ = ["StepProfiler"]

_SECONDS = 1.5
"""How long each step is repeated."""

_FEWEST = 3


class StepProfiler:
    """Runs steps as an engine does, and once more kernel by kernel, in turns.

    What an engine does besides, it cannot see: the phases of the engine's own steps come from outside.
    """

    def __init__(
        self,
        artifact: Artifact,
        library: LibraryRecord,
        work: ModelWork,
        host: HostRecord,
        *,
        max_num_seqs: int,
        max_num_tokens: int,
        context_tokens: int,
        seconds: float = _SECONDS,
    ) -> None:
        """Load the artifact for steps of so many sequences and tokens.

        Args:
            artifact: the model.
            library: of it, for a CPU or an NVIDIA GPU.
            work: what it does.
            host: the limits to compare with.
            max_num_seqs: most sequences in a step.
            max_num_tokens: most tokens in a step.
            context_tokens: most tokens of a sequence.
            seconds: how long each step is repeated.
        """
        memory = artifact.manifest.memory
        self._num_pages = -(-context_tokens // memory.page_size)
        self._executor = _open(
            artifact,
            library,
            kv_memory=(max_num_seqs + 1) * self._num_pages * memory.page_size * memory.kv_bytes_per_token,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max(max_num_tokens, max_num_seqs),
        )
        self._work = work
        self._host = host
        self._seconds = seconds

    def close(self) -> None:
        """Let go of weights and pages."""
        self._executor.close()

    def prefill(self, num_tokens: int, phases: PhaseSeconds) -> StepProfile:
        """A step of one prompt; ``phases`` are those of such a step of an engine."""
        return self._profile("prefill", self._step(1, num_tokens, num_tokens), phases)

    def decode(self, num_sequences: int, context_tokens: int, phases: PhaseSeconds) -> StepProfile:
        """A step that gives a token to each of several sequences of one length, its own token included."""
        return self._profile("decode", self._step(num_sequences, context_tokens, 1), phases)

    def _step(self, num_sequences: int, context_tokens: int, num_tokens: int) -> Step:
        random = np.random.default_rng(0)
        token_ids = random.integers(0, self._executor.vocab_size, (num_sequences, num_tokens)).tolist()
        return Step(
            tuple(
                SequenceChunk(
                    number,
                    tuple(tokens),
                    context_tokens - num_tokens,
                    tuple(range(number * self._num_pages, (number + 1) * self._num_pages)),
                    LogitRows.LAST,
                )
                for number, tokens in enumerate(token_ids)
            )
        )

    def _profile(self, phase: str, step: Step, phases: PhaseSeconds) -> StepProfile:
        calls = self._executor.record(step)
        whole, of_calls = self._time(step, calls)
        of_step = StepWork(self._work, step)
        works = [of_step.of(call) for call in calls]
        seconds: dict[Group, float] = defaultdict(float)
        for work, spent in zip(works, of_calls, strict=True):
            seconds[work.group] += spent
        seconds[Group.SAMPLING] += phases.sample
        outside = max(0.0, whole - sum(of_calls))
        seconds[Group.HOST] += outside + phases.schedule + phases.grammar + phases.emit
        total = sum(seconds.values())
        by_group = _by_group(works)
        groups = [
            self._group(group, spent, total, by_group.get(group, ())) for group, spent in seconds.items()
        ]
        chunk = step.chunks[0]
        return StepProfile(
            phase=phase,
            sequences=len(step.chunks),
            tokens=step.num_tokens,
            context_tokens=chunk.num_computed_tokens + len(chunk.token_ids),
            step_ms=total * 1e3,
            groups=tuple(sorted(groups, key=lambda group: -group.ms)),
        )

    def _time(self, step: Step, calls: Sequence[KernelCall]) -> tuple[float, list[float]]:
        """Seconds of the whole step and of each of its calls, medians of turns."""
        wholes: list[float] = []
        of_calls: list[list[float]] = []
        ends = time.perf_counter() + self._seconds
        while len(wholes) < _FEWEST or time.perf_counter() < ends:
            started = time.perf_counter()
            self._executor.run_whole(step)
            wholes.append(time.perf_counter() - started)
            of_calls.append(self._executor.time(calls))
        return median(wholes), [float(spent) for spent in np.median(of_calls, axis=0)]

    def _group(self, group: Group, seconds: float, total: float, works: Sequence[CallWork]) -> GroupRecord:
        num_bytes = sum(work.num_bytes for work in works)
        needed = dict(self._needed(num_bytes, works))
        limit = max(needed, key=needed.__getitem__, default=None)
        return GroupRecord(
            name=group.value,
            ms=seconds * 1e3,
            share=seconds / total,
            calls=len(works),
            bytes=num_bytes,
            operations=sum(work.operations for work in works),
            limit=limit,
            fraction_of_limit=None if limit is None or not seconds else needed[limit] / seconds,
        )

    def _needed(self, num_bytes: float, works: Sequence[CallWork]) -> Iterator[tuple[str, float]]:
        """Seconds that each limit asks for at least: of memory, and of the arithmetic of all products."""
        if num_bytes and self._host.memory_gb_s is not None:
            yield "memory", num_bytes / (self._host.memory_gb_s * 1e9)
        operations: dict[Arithmetic, float] = defaultdict(float)
        for work in works:
            if work.arithmetic is not None:
                operations[work.arithmetic] += work.operations
        limits = {kind: self._host.operations_per_second(kind.value) for kind in operations}
        times = [count / limit for kind, count in operations.items() if (limit := limits[kind]) is not None]
        if times and len(times) == len(operations):
            yield max(operations, key=operations.__getitem__).value, sum(times)


def _open(artifact: Artifact, library: LibraryRecord, **sizes: int) -> RecordingExecutor:
    if library.backend == "cuda":
        from .gpu_calls import RecordingGpuExecutor

        return RecordingGpuExecutor(artifact, library, **sizes)
    return RecordingTvmExecutor(artifact, **sizes)


def _by_group(works: Sequence[CallWork]) -> Mapping[Group, Sequence[CallWork]]:
    found: dict[Group, list[CallWork]] = defaultdict(list)
    for work in works:
        found[work.group].append(work)
    return found
