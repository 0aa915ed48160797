"""Running the peers, one process after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import msgspec

from ..records import BenchRecord, PeerRecord, PeerRun
from .harness import NOT_INSTALLED
from .known import PEERS, Peer

__all__ = ["Comparison", "mean_runs", "measure_peers"]

_HARNESS = Path(__file__).with_name("harness.py")

_NOT_INSTALLED = "not installed"

_MOST_SECONDS = 1200
"""How long a peer may take before it counts as failed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What to compare with.

    Attributes:
        models: for the peers, each of which runs those that it can read.
        pythons: interpreters by peer; the others are looked for in this one.
    """

    models: tuple[Path, ...]
    pythons: Mapping[str, str] = field(default_factory=dict)


class _Measured(msgspec.Struct, frozen=True):
    """What the harness prints."""

    load_s: float
    runs: tuple[PeerRun, ...]


def measure_peers(
    comparison: Comparison, request: Mapping[str, object], *, report: Callable[[str], None]
) -> tuple[PeerRecord, ...]:
    """Run each peer on each model that it can read; ``request`` is the harness's without a model."""
    return tuple(_measure_all(comparison, request, report))


def _measure_all(
    comparison: Comparison, request: Mapping[str, object], report: Callable[[str], None]
) -> Iterator[PeerRecord]:
    tokenizer = next((str(path) for path in comparison.models if (path / "tokenizer.json").is_file()), None)
    for peer in PEERS:
        if request["device"] not in peer.devices:
            continue
        python = comparison.pythons.get(peer.name, sys.executable)
        models = [path for path in comparison.models if peer.reads(path)]
        if not models:
            yield PeerRecord(peer.name, None, f"not run: it reads {peer.wants}, and none was named")
        for model in models:
            report(f"{peer.name} on {model.name}")
            asked = {**request, "model": str(model.resolve()), "tokenizer": tokenizer}
            record = _measure(peer, python, model, asked)
            yield record
            if record.status == _NOT_INSTALLED:
                break


def _measure(peer: Peer, python: str, model: Path, request: Mapping[str, object]) -> PeerRecord:
    command = [python, str(_HARNESS), peer.module, json.dumps(request)]
    # The peer's Python must not look for its modules among those of this one.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_MOST_SECONDS,
            env=environment,
        )
    except OSError as error:
        return PeerRecord(peer.name, model.name, f"failed: {python} cannot be run: {error.strerror}")
    except subprocess.TimeoutExpired:
        return PeerRecord(peer.name, model.name, f"failed: it took more than {_MOST_SECONDS} s")
    if done.returncode == NOT_INSTALLED:
        return PeerRecord(peer.name, None, _NOT_INSTALLED)
    try:
        measured = msgspec.json.decode(done.stdout, type=_Measured)
    except msgspec.DecodeError:
        return PeerRecord(peer.name, model.name, f"failed: {_last_words(done.returncode, done.stderr)}")
    return PeerRecord(peer.name, model.name, "measured", measured.load_s, measured.runs)


def _last_words(code: int, said: str) -> str:
    lines: Sequence[str] = [line for line in said.splitlines() if line.strip()]
    return lines[-1].strip()[-200:] if lines else f"it ended with code {code} and said nothing"


def mean_runs(record: BenchRecord) -> tuple[PeerRun, ...]:
    """A benchmark's own rates, the mean before and after the peers'; 0 where there are none."""
    return tuple(
        PeerRun(
            before.concurrency,
            mean((before.prefill_tok_s, after.prefill_tok_s)),
            mean((before.decode_tok_s or 0.0, after.decode_tok_s or 0.0)),
            mean((before.output_tok_s, after.output_tok_s)),
        )
        for before, after in zip(record.runs, record.runs_after, strict=True)
    )
