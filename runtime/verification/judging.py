"""An artifact against scores that were recorded: how far it is from its model, and how fast.

A process that compiles cannot always run artifacts: another one does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import msgspec

from ...ir import errors
from ...ir.errors import IngotError
from ...targets import read_manifest
from ...targets.manifest import AccuracyRecord
from ...targets.recorded_scores import RecordedScores
from ..engine.engine import Engine
from ..sampling.sampling_params import SamplingParams
from .verification import compare, kv_memory_for

__all__ = ["judge", "judge_apart", "run_job"]

_PROMPT_TOKENS = 16
_DECODED_TOKENS = 48
_REPEATS = 3


def judge(artifact: Path, recorded: Path) -> AccuracyRecord:
    """Compare ``artifact`` with the recorded scores, and time a short answer of its.

    Raises :class:`ArtifactError` where the artifact cannot be used.
    """
    scores = RecordedScores(recorded)
    manifest = read_manifest(artifact)
    longest = max(len(window) for window in scores.windows)
    room = min(manifest.model.max_seq_len, max(longest, _PROMPT_TOKENS + _DECODED_TOKENS))
    with Engine(artifact, max_num_seqs=1, kv_memory=kv_memory_for(manifest, room)) as engine:
        found = compare(engine.score, scores.score, scores.windows)
        prompt = scores.windows[0][: min(_PROMPT_TOKENS, room // 2)]
        speed = _decode_rate(engine, prompt, min(_DECODED_TOKENS, room - len(prompt)))
    return AccuracyRecord(**asdict(found), reference="interpreter", decode_tok_s=speed)


def _decode_rate(engine: Engine, prompt: list[int], num_tokens: int) -> float | None:
    """Tokens a second of one answer, behind its first; the best of some, as others may use this machine."""
    if num_tokens < 2:
        return None
    best = float("inf")
    for _ in range(_REPEATS):
        times = []
        for count in (1, num_tokens):
            params = SamplingParams(max_tokens=count, temperature=0.0, ignore_eos=True)
            started = time.perf_counter()
            engine.generate(prompt, params)
            times.append(time.perf_counter() - started)
        best = min(best, times[1] - times[0])
    return (num_tokens - 1) / best if best > 0 else None


def judge_apart(artifact: Path, recorded: Path) -> AccuracyRecord:
    """:func:`judge` in another process; what it raises is raised here."""
    job = json.dumps({"artifact": str(artifact), "recorded": str(recorded)})
    # -P: the current folder must not become a place to import from.
    command = [sys.executable, "-P", "-c", f"import sys, {__name__} as judging; sys.exit(judging.run_job())"]
    done = subprocess.run(command, input=job, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return msgspec.json.decode(done.stdout, type=AccuracyRecord)
    try:
        failure = json.loads(done.stdout)
        kind, message = getattr(errors, failure["error"]), failure["message"]
    except (ValueError, KeyError, AttributeError):
        raise IngotError(f"{artifact} could not be run to compare it: exit code {done.returncode}") from None
    raise kind(message)


def run_job() -> int:
    """What the other process does: read a job from stdin, compare, answer on stdout; the exit code."""
    job = json.load(sys.stdin)
    try:
        record = judge(Path(job["artifact"]), Path(job["recorded"]))
    except IngotError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        return 1
    except KeyboardInterrupt:
        return 130
    sys.stdout.buffer.write(msgspec.json.encode(record))
    return 0
