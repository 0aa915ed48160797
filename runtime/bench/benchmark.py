"""A benchmark from end to end: load, warm up, measure each concurrency, then the machine's limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ...ir.errors import RequestError
from ...targets import Manifest
from ..engine.engine_thread import EngineThread
from ..engine.loading import load
from ..execution.artifact import Artifact, open_artifact
from ..scheduling.limits import Limits
from .counting import count_work
from .first_token import measure_first_token
from .host_limits import measure_host
from .load_generator import random_prompts, run_round
from .memory import peak_memory_bytes
from .model_work import ModelWork
from .records import BenchRecord, FractionOfLimit, HostRecord, RunRecord, StepProfile
from .step_profile import StepProfiler
from .timeline import Round, mean_phases, percentiles, step_share

__all__ = ["BenchOptions", "run_benchmark"]

_MAX_BATCHED_TOKENS = 512
"""Most tokens in a step: what engines have unless told otherwise."""

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
    """

    prompt_tokens: int | None = None
    output_tokens: int = 64
    concurrency: tuple[int, ...] = (1, 8, 16)
    rounds: int = 3
    profile: bool = False


def run_benchmark(
    path: Path, options: BenchOptions, *, report: Callable[[str], None] = lambda _: None
) -> BenchRecord:
    """Measure the artifact at ``path``; ``report`` hears what is being measured.

    Raises:
        ArtifactError: the artifact cannot be used here.
        RequestError: prompt and answer are longer than the model's context, or it generates no text.
    """
    report("loading")
    started = time.perf_counter()
    artifact = open_artifact(path)
    if artifact.info.task != "generate":
        raise artifact.info.refuse("generate")
    manifest = artifact.manifest
    prompt_tokens = _prompt_tokens(manifest, options)
    most = max(options.concurrency)
    loaded = load(
        path,
        kv_memory=_kv_memory(manifest, most, prompt_tokens + options.output_tokens),
        max_num_seqs=most,
        max_num_batched_tokens=max(most, _MAX_BATCHED_TOKENS),
    )
    load_seconds = time.perf_counter() - started

    limits = Limits(most, max(most, _MAX_BATCHED_TOKENS), manifest.model.max_seq_len)
    engine = EngineThread(loaded.executor, loaded.tokenizer, loaded.info, limits)
    try:
        rounds = [
            _run_rounds(engine, manifest.model.vocab_size, count, prompt_tokens, options, report)
            for count in options.concurrency
        ]
    finally:
        engine.close()
    peak = peak_memory_bytes()
    return _summary(artifact, options, prompt_tokens, rounds, load_seconds, peak, report)


def _summary(
    artifact: Artifact,
    options: BenchOptions,
    prompt_tokens: int,
    rounds: Sequence[Sequence[Round]],
    load_seconds: float,
    peak: int,
    report: Callable[[str], None],
) -> BenchRecord:
    """Measure what is not of the engine, and put everything together."""
    report("the first token of a fresh process")
    first_token_seconds = measure_first_token(artifact.folder)
    report("this machine's limits")
    host, work = measure_host(artifact), count_work(artifact)
    profile = (
        _profile(artifact, options, prompt_tokens, rounds, host, work, report) if options.profile else ()
    )
    manifest = artifact.manifest
    return BenchRecord(
        host=host,
        model=manifest.model.name,
        quant=manifest.quant,
        weight_bytes=manifest.memory.weight_bytes,
        load_s=load_seconds,
        first_token_s=first_token_seconds,
        peak_memory_bytes=peak,
        runs=tuple(
            _run_record(count, prompt_tokens, options.output_tokens, repeated, host, work)
            for count, repeated in zip(options.concurrency, rounds, strict=True)
        ),
        profile=profile,
    )


def _profile(
    artifact: Artifact,
    options: BenchOptions,
    prompt_tokens: int,
    rounds: Sequence[Sequence[Round]],
    host: HostRecord,
    work: ModelWork,
    report: Callable[[str], None],
) -> tuple[StepProfile, ...]:
    """A step of a prompt, and one that decodes at each concurrency in the middle of the answers."""
    chunk_tokens, context_tokens = (
        min(prompt_tokens, _MAX_BATCHED_TOKENS),
        prompt_tokens + options.output_tokens // 2,
    )
    profiler = StepProfiler(
        artifact,
        work,
        host,
        max_num_seqs=max(options.concurrency),
        max_num_tokens=chunk_tokens,
        context_tokens=max(context_tokens, 1),
    )
    try:
        report("where the time of a prompt's step goes")
        first = min(zip(options.concurrency, rounds, strict=True), key=lambda run: run[0])[1]
        steps = [profiler.prefill(chunk_tokens, mean_phases([each.prefill for each in first]))]
        for count, repeated in zip(options.concurrency, rounds, strict=True):
            report(f"where the time of a step goes, {count} at once")
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


def _run_rounds(
    engine: EngineThread,
    vocab_size: int,
    count: int,
    prompt_tokens: int,
    options: BenchOptions,
    report: Callable[[str], None],
) -> list[Round]:
    def run(number: int, num_prompt_tokens: int, num_output_tokens: int) -> Round:
        prompts = random_prompts(count, num_prompt_tokens, vocab_size, seed=(count, number))
        return run_round(engine, prompts, num_output_tokens)

    report(f"{count} at once, warming up")
    run(0, min(prompt_tokens, _WARM_UP_TOKENS), min(options.output_tokens, 4))
    rounds = []
    for number in range(1, options.rounds + 1):
        report(f"{count} at once, round {number} of {options.rounds}")
        rounds.append(run(number, prompt_tokens, options.output_tokens))
    return rounds


def _run_record(
    count: int,
    prompt_tokens: int,
    output_tokens: int,
    rounds: Sequence[Round],
    host: HostRecord,
    work: ModelWork,
) -> RunRecord:
    prefill = median(each.prefill_rate for each in rounds)
    decode_rates = [each.decode_rate for each in rounds]
    measured = [rate for rate in decode_rates if rate is not None]
    decode = median(measured) if measured else None
    timelines = [timeline for each in rounds for timeline in each.timelines]
    gaps = [gap for timeline in timelines for gap in timeline.token_gaps]
    return RunRecord(
        concurrency=count,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        prefill_tok_s=prefill,
        decode_tok_s=decode,
        output_tok_s=median(each.output_rate for each in rounds),
        ttft_ms=percentiles([timeline.first_token_delay for timeline in timelines]),
        itl_ms=percentiles(gaps) if gaps else None,
        fraction_of_limit=FractionOfLimit(
            decode=_decode_fraction(count, prompt_tokens + output_tokens / 2, decode, host, work),
            prefill=_prefill_fraction(prompt_tokens, prefill, host, work),
        ),
        step_share=step_share([each.phases for each in rounds]),
    )


def _decode_fraction(
    count: int, context_length: float, rate: float | None, host: HostRecord, work: ModelWork
) -> float | None:
    """Bytes read a second of those that memory gives; ``context_length`` is the mean over the answer."""
    if rate is None or host.read_gb_s is None:
        return None
    return work.decode_bytes(count, context_length) * (rate / count) / (host.read_gb_s * 1e9)


def _prefill_fraction(prompt_tokens: int, rate: float, host: HostRecord, work: ModelWork) -> float | None:
    """Operations a second of those that the products' instructions can do."""
    limit = host.operations_per_second(work.arithmetic.value)
    return None if limit is None else work.prefill_operations(prompt_tokens) * (rate / prompt_tokens) / limit
