"""A benchmark as a table for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .peers.comparison import mean_runs
from .records import BenchRecord, PeerRecord, Percentiles, RunRecord, StepProfile, StepShare

__all__ = ["print_report"]

_UNKNOWN = "-"


def print_report(record: BenchRecord, *, to_stderr: bool) -> None:
    """Print what was measured, a column for each concurrency."""
    console = Console(highlight=False, markup=False, stderr=to_stderr)
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(record):
        facts.add_row(name, value)
    console.print(facts)
    runs = Table("at once", box=SIMPLE_HEAD)
    for run in record.runs:
        runs.add_column(str(run.concurrency), justify="right")
    columns = [dict(_measures(run)) for run in record.runs]
    for name in columns[0]:
        runs.add_row(name, *(column[name] for column in columns))
    console.print(runs)
    for profile in record.profile:
        console.print(_profile(profile))
    if record.peers:
        console.print(_peers(record))
    for peer in record.peers:
        if peer.load_s is None:
            console.print(f"{_name_of(peer)}: {peer.status}", soft_wrap=True)


def _peers(record: BenchRecord) -> Table:
    """Each peer's rates, and how many times as fast this model was, before and after on average."""
    table = Table(title="other systems", title_justify="left", title_style="", box=SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    table.add_column("at once", justify="right")
    for name in ("prefill tok/s", "decode tok/s", "output tok/s", "load s"):
        table.add_column(name, justify="right", no_wrap=True)
    ours = {run.concurrency: run for run in mean_runs(record)}
    for run in ours.values():
        rates = (f"{rate:.1f}" for rate in (run.prefill_tok_s, run.decode_tok_s, run.output_tok_s))
        table.add_row(f"ingot {record.quant}", str(run.concurrency), *rates, f"{record.load_s:.1f}")
    for peer in record.peers:
        for run in peer.runs:
            own = ours[run.concurrency]
            pairs = (
                (run.prefill_tok_s, own.prefill_tok_s),
                (run.decode_tok_s, own.decode_tok_s),
                (run.output_tok_s, own.output_tok_s),
            )
            rates = (f"{theirs:.1f} ({mine / theirs:.2f}x)" for theirs, mine in pairs)
            table.add_row(_name_of(peer), str(run.concurrency), *rates, f"{peer.load_s:.1f}")
    return table


def _profile(profile: StepProfile) -> Table:
    prompt = f"prefill of {profile.tokens} tokens"
    answers = f"decode, {profile.sequences} at once, behind {profile.context_tokens - 1} tokens"
    title = f"{prompt if profile.phase == 'prefill' else answers}: {profile.step_ms:.2f} ms a step"
    table = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("ms", "share", "calls", "MB", "GOP", "of limit"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in profile.groups:
        table.add_row(
            group.name,
            f"{group.ms:.3f}" if group.ms < 100 else f"{group.ms:.0f}",
            f"{group.share:.1%}",
            str(group.calls) if group.calls else "",
            f"{group.bytes / 1e6:.1f}" if group.bytes else "",
            f"{group.operations / 1e9:.2f}" if group.operations else "",
            "" if group.limit is None else f"{_percent(group.fraction_of_limit)} {group.limit}",
        )
    return table


def _name_of(peer: PeerRecord) -> str:
    return peer.name if peer.model is None else f"{peer.name} {peer.model}"


def _facts(record: BenchRecord) -> Iterator[tuple[str, str]]:
    host = record.host
    yield "model", f"{record.model}, quant {record.quant}, {record.weight_bytes / 2**20:.0f} MiB of weights"
    yield "host", f"{host.cpu}, {host.threads} threads" if host.gpu is None else f"{host.gpu}, {host.cpu}"
    limits = (
        (host.read_gb_s, "GB/s read"),
        (host.copy_gb_s, "GB/s copied (read and written)"),
        (host.int8_tops, "int8 TOPS"),
        (host.bf16_tflops, "bfloat16 TFLOPS"),
        (host.float32_tflops, "float32 TFLOPS"),
    )
    measured = [f"{value:.3g} {unit}" for value, unit in limits if value is not None]
    yield "limits", ", ".join(measured) or "not measured: the artifact's library has no probes"
    yield "load", f"{record.load_s:.2f} s"
    if record.first_token_s is not None:
        yield "first token", f"{record.first_token_s:.2f} s after the start of a process"
    yield "peak memory", f"{record.peak_memory_bytes / 2**20:.0f} MiB"
    if record.device_memory_bytes is not None:
        yield "GPU's memory", f"{record.device_memory_bytes / 2**20:.0f} MiB"


def _measures(run: RunRecord) -> Iterator[tuple[str, str]]:
    """A column of the table: what was measured, and how much it was."""
    fraction = run.fraction_of_limit
    yield "prompt tokens", str(run.prompt_tokens)
    yield "output tokens", str(run.output_tokens)
    yield "prefill tok/s", f"{run.prefill_tok_s:.1f}"
    yield "  of arithmetic", _percent(fraction.prefill)
    yield "decode tok/s", _UNKNOWN if run.decode_tok_s is None else f"{run.decode_tok_s:.1f}"
    yield "  of memory", _percent(fraction.decode)
    yield "output tok/s", f"{run.output_tok_s:.1f}"
    yield from _times("first token ms", run.ttft_ms)
    if run.itl_ms is not None:
        yield from _times("next token ms", run.itl_ms)
    if run.step_share is not None:
        yield from _shares(run.step_share)


def _shares(share: StepShare) -> Iterator[tuple[str, str]]:
    yield "step: executing", f"{share.execute:.1%}"
    yield "  scheduling", f"{share.schedule:.1%}"
    yield "  sampling", f"{share.sample:.1%}"
    yield "  grammars", f"{share.grammar:.1%}"
    yield "  handing out", f"{share.emit:.1%}"


def _times(title: str, times: Percentiles) -> Iterator[tuple[str, str]]:
    for name, time in (("p50", times.p50), ("p90", times.p90), ("p99", times.p99)):
        yield f"{title} {name}", f"{time:.2f}" if time < 100 else f"{time:.0f}"


def _percent(fraction: float | None) -> str:
    return _UNKNOWN if fraction is None else f"{fraction:.0%}"
