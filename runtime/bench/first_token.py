"""How long a user waits who types ``ingot run`` and has nothing running yet."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from ...ir.errors import IngotError

__all__ = ["measure_first_token"]

_PROMPT = "Once upon a time"
_PACKAGE = __name__.partition(".")[0]


def measure_first_token(artifact: Path, *, device: str = "auto", repetitions: int = 3) -> float:
    """Median seconds from the start of a fresh process that answers a short prompt to its first token.

    Raises :class:`IngotError` with what the process said where it does not answer.
    """
    return median(_measure(artifact, device) for _ in range(repetitions))


def _measure(artifact: Path, device: str) -> float:
    # -P: the current folder must not become a place to import from.
    command = [sys.executable, "-P", "-m", _PACKAGE, "run", str(artifact.resolve()), _PROMPT]
    command += ["--raw", "--max-tokens", "1", "--temperature", "0", "--device", device]
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        ) as process:
            # The answer, or the line's end behind one whose text is empty.
            first = process.stdout.read(1) if process.stdout else b""
            ended = time.perf_counter()
            process.communicate()
        if process.returncode or not first:
            errors.seek(0)
            said = errors.read().strip().removeprefix("Error: ") or f"it ended with code {process.returncode}"
            raise IngotError(f"'{_PACKAGE} run' on {artifact} did not answer: {said}")
    return ended - started
