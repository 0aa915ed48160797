"""What the rounds of a run amount to, and how near that is to the machine's limits."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from .model_work import ModelWork
from .records import FractionOfLimit, HostRecord, RunRecord
from .timeline import Round, percentiles, step_share

__all__ = ["run_record"]


def run_record(
    count: int,
    prompt_tokens: int,
    output_tokens: int,
    rounds: Sequence[Round],
    host: HostRecord,
    work: ModelWork,
) -> RunRecord:
    """Put together the rounds of ``count`` requests at once."""
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
    if rate is None or host.memory_gb_s is None:
        return None
    return work.decode_bytes(count, context_length) * (rate / count) / (host.memory_gb_s * 1e9)


def _prefill_fraction(prompt_tokens: int, rate: float, host: HostRecord, work: ModelWork) -> float | None:
    """Operations a second of those that the products' instructions can do."""
    limit = host.operations_per_second(work.arithmetic.value)
    return None if limit is None else work.prefill_operations(prompt_tokens) * (rate / prompt_tokens) / limit
