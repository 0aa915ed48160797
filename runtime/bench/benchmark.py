"""A benchmark from end to end: load, warm up, measure each concurrency, then the machine's limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...ir.errors import RequestError
from ...targets import Manifest
from ...targets.manifest import LibraryRecord
from ..engine.engine_thread import EngineThread
from ..engine.loading import load
from ..execution.artifact import Artifact, open_artifact
from ..execution.gpu.opening import ON_GPUS
from ..scheduling.limits import Limits
from .counting import count_work
from .first_token import measure_first_token
from .gpu_limits import measure_gpu
from .host_limits import measure_host
from .load_generator import random_prompts, run_round
from .memory import forget_peak_memory, peak_memory_bytes
from .model_work import ModelWork
from .peers import Comparison, measure_peers
from .records import BenchRecord, HostRecord, RunRecord, StepProfile
from .run_record import run_record
from .step_calls import wait_until_settled
from .step_profile import StepProfiler
from .timeline import Round, mean_phases

__all__ = ["BenchOptions", "run_benchmark"]

_MAX_BATCHED_TOKENS = 512
"""Most tokens in a step: what engines have unless told otherwise."""

_MAX_GPU_BATCHED_TOKENS = 2048
"""The same on a GPU, which smaller steps do not fill."""

_WARM_UP_TOKENS = 32


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure.

    Attributes:
        prompt_tokens: of each request; None: 512, or what a short context leaves beside the answer.
        output_tokens: of each request.
        concurrency: how many requests at once, one run for each.
        rounds: how often each run is repeated.
        profile: also tell where the time of a step goes.
        comparison: other systems to measure too.
        device: where the model runs, as ``ingot serve`` has it.
        first_token: also start fresh processes, to see how long their first token takes.
    """

    prompt_tokens: int | None = None
    output_tokens: int = 64
    concurrency: tuple[int, ...] = (1, 8, 16)
    rounds: int = 3
    profile: bool = False
    comparison: Comparison | None = None
    device: str = "auto"
    first_token: bool = True


def run_benchmark(
    path: Path, options: BenchOptions, *, report: Callable[[str], None] = lambda _: None
) -> BenchRecord:
    """Measure the artifact at ``path``; ``report`` hears what is being measured.

    Raises:
        ArtifactError: the artifact cannot be used here.
        RequestError: prompt and answer are longer than the model's context, or it generates no text.
    """
    report("opening")
    started = time.perf_counter()
    artifact = open_artifact(path)
    library = artifact.library(device=options.device)
    if options.profile and library.backend == "onnx":
        raise RequestError(
            f"{artifact.folder} is a graph, and profiles are of the kernels of machine code", "profile"
        )
    if options.profile and library.backend == "metal":
        raise RequestError("profiles are of kernels of CPUs and CUDA, not of Metal's", "profile")
    if artifact.info.task != "generate":
        raise artifact.info.refuse("generate")
    prompt_tokens = _prompt_tokens(artifact.manifest, options)
    return _Benchmark(artifact, library, options, prompt_tokens, report).run(time.perf_counter() - started)


class _Benchmark:
    """Measures one artifact."""

    def __init__(
        self,
        artifact: Artifact,
        library: LibraryRecord,
        options: BenchOptions,
        prompt_tokens: int,
        report: Callable[[str], None],
    ) -> None:
        self._artifact, self._library = artifact, library
        self._device_bytes: int | None = None
        self._options = options
        self._prompt_tokens = prompt_tokens
        self._report = report

    def run(self, open_seconds: float) -> BenchRecord:
        """Measure everything; opening the artifact took so long."""
        manifest, options = self._artifact.manifest, self._options
        before = self._limits()
        forget_peak_memory()
        rounds, load_seconds = self._rounds()
        peak = peak_memory_bytes()
        first_token_seconds = self._first_token() if options.first_token else None
        host, work = before.best_of(self._limits()), count_work(self._artifact)
        record = BenchRecord(
            host=host,
            model=manifest.model.name,
            quant=manifest.quant,
            weight_bytes=manifest.memory.weight_bytes,
            load_s=open_seconds + load_seconds,
            first_token_s=first_token_seconds,
            peak_memory_bytes=peak,
            device_memory_bytes=self._device_bytes,
            runs=self._runs(rounds, host, work),
            profile=self._profile(rounds, host, work) if options.profile else (),
        )
        if options.comparison is None:
            return record
        peers = measure_peers(options.comparison, self._request(host.threads), report=self._report)
        # What they are compared with is measured around them: machines grow slower and faster.
        rounds, _ = self._rounds()
        return replace(record, peers=peers, runs_after=self._runs(rounds, host, work))

    def _first_token(self) -> float:
        self._report("the first token of a fresh process")
        return measure_first_token(self._artifact.folder, device=self._options.device)

    def _limits(self) -> HostRecord:
        self._report("this machine's limits")
        if self._library.backend in ON_GPUS:
            return measure_gpu(self._artifact, self._library)
        return measure_host(self._artifact)

    def _rounds(self) -> tuple[list[list[Round]], float]:
        """The rounds of each concurrency, and the seconds that loading took."""
        self._report("loading")
        started = time.perf_counter()
        manifest, options, most = self._artifact.manifest, self._options, max(self._options.concurrency)
        on_gpu = self._library.backend in ON_GPUS
        usual = _MAX_GPU_BATCHED_TOKENS if on_gpu else _MAX_BATCHED_TOKENS
        max_num_tokens = max(most, min(usual, manifest.memory.max_step_tokens))
        loaded = load(
            self._artifact.folder,
            kv_memory=_kv_memory(manifest, most, self._prompt_tokens + options.output_tokens),
            max_num_seqs=most,
            max_num_batched_tokens=max_num_tokens,
            device=options.device,
        )
        load_seconds = time.perf_counter() - started
        limits = Limits(most, max_num_tokens, manifest.model.max_seq_len)
        engine = EngineThread(loaded.executor, loaded.tokenizer, loaded.info, limits)
        try:
            self._warm_up(engine, most)
            wait_until_settled(loaded.executor)
            self._device_bytes = getattr(loaded.executor, "num_device_bytes", None)
            return [self._rounds_of(engine, count) for count in options.concurrency], load_seconds
        finally:
            engine.close()

    def _warm_up(self, engine: EngineThread, count: int) -> None:
        self._report("warming up")
        prompts = self._prompts(count, 0, min(self._prompt_tokens, _WARM_UP_TOKENS))
        run_round(engine, prompts, min(self._options.output_tokens, 4))

    def _rounds_of(self, engine: EngineThread, count: int) -> list[Round]:
        rounds = []
        for number in range(1, self._options.rounds + 1):
            self._report(f"{count} at once, round {number} of {self._options.rounds}")
            prompts = self._prompts(count, number, self._prompt_tokens)
            rounds.append(run_round(engine, prompts, self._options.output_tokens))
        return rounds

    def _prompts(self, count: int, number: int, num_tokens: int) -> list[tuple[int, ...]]:
        """The prompts of a round, 0 the one to warm up."""
        vocab_size = self._artifact.manifest.model.vocab_size
        return random_prompts(count, num_tokens, vocab_size, seed=(count, number))

    def _runs(
        self, rounds: Sequence[Sequence[Round]], host: HostRecord, work: ModelWork
    ) -> tuple[RunRecord, ...]:
        return tuple(
            run_record(count, self._prompt_tokens, self._options.output_tokens, repeated, host, work)
            for count, repeated in zip(self._options.concurrency, rounds, strict=True)
        )

    def _request(self, threads: int) -> Mapping[str, object]:
        """What peers are asked to do."""
        return {
            "threads": threads,
            "device": "gpu" if self._library.backend in ON_GPUS else "cpu",
            "prompt_tokens": self._prompt_tokens,
            "output_tokens": self._options.output_tokens,
            "concurrency": self._options.concurrency,
            "rounds": self._options.rounds,
            "vocab_size": self._artifact.manifest.model.vocab_size,
        }

    def _profile(
        self, rounds: Sequence[Sequence[Round]], host: HostRecord, work: ModelWork
    ) -> tuple[StepProfile, ...]:
        """A step of a prompt, and one that decodes at each concurrency in the middle of the answers."""
        concurrency = self._options.concurrency
        chunk_tokens = min(self._prompt_tokens, _MAX_BATCHED_TOKENS)
        context_tokens = self._prompt_tokens + self._options.output_tokens // 2
        profiler = StepProfiler(
            self._artifact,
            self._library,
            work,
            host,
            max_num_seqs=max(concurrency),
            max_num_tokens=chunk_tokens,
            context_tokens=context_tokens,
        )
        try:
            self._report("where the time of a prompt's step goes")
            fewest = rounds[concurrency.index(min(concurrency))]
            steps = [profiler.prefill(chunk_tokens, mean_phases([each.prefill for each in fewest]))]
            for count, repeated in zip(concurrency, rounds, strict=True):
                self._report(f"where the time of a step goes, {count} at once")
                phases = mean_phases([each.decode for each in repeated])
                steps.append(profiler.decode(count, context_tokens, phases))
            return tuple(steps)
        finally:
            profiler.close()


def _prompt_tokens(manifest: Manifest, options: BenchOptions) -> int:
    context = manifest.model.max_seq_len
    room = context - options.output_tokens
    wanted = min(512, room) if options.prompt_tokens is None else options.prompt_tokens
    if wanted < 1 or wanted > room:
        raise RequestError(
            f"prompts of {max(wanted, 1)} and answers of {options.output_tokens} tokens do not fit "
            f"{manifest.model.name}, whose context is {context} tokens",
            "prompt_tokens",
        )
    return wanted


def _kv_memory(manifest: Manifest, num_sequences: int, num_tokens: int) -> int:
    """Bytes for the pages of all sequences, and one more for each: so many the scheduler keeps in reserve."""
    page_size = manifest.memory.page_size
    num_pages = num_sequences * (-(-num_tokens // page_size) + 1)
    return num_pages * page_size * manifest.memory.kv_bytes_per_token
