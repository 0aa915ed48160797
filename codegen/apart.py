"""Compiling in a process of its own.

What the compiler took of memory is gone when that process ends, and it is not in the way of an engine that
has loaded TVM's small runtime library in this one: a process holds either that or TVM with its compiler.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ..ir import errors
from ..ir.errors import CompileError, IngotError

__all__ = ["Option", "Report", "compile_apart", "run_job"]

Option = str | int | float | list[str] | None
"""What an option is in JSON."""


class Report(msgspec.Struct, frozen=True):
    """What compiling took."""

    num_bytes: int
    seconds: float
    peak_memory_bytes: int


def compile_apart(
    source: str, output: Path, options: Mapping[str, Option], *, show_progress: bool = False
) -> Report:
    """Run :func:`.compiler.compile_model` in another process; what it raises is raised here.

    ``options`` are its keyword arguments, paths as text; with ``show_progress`` the other process shows a
    bar on stderr. Raises :class:`CompileError` also where that process dies.
    """
    job = json.dumps(
        {"source": source, "output": str(output), "options": dict(options), "show": show_progress}
    )
    # -P: the current folder must not become a place to import from.
    command = [sys.executable, "-P", "-c", f"import sys, {__name__} as apart; sys.exit(apart.run_job())"]
    done = subprocess.run(command, input=job, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return msgspec.json.decode(done.stdout, type=Report)
    try:
        failure = json.loads(done.stdout)
        kind, message = getattr(errors, failure["error"]), failure["message"]
    except (ValueError, KeyError, AttributeError):
        how = (
            f"ended with code {done.returncode}"
            if done.returncode > 0
            else f"was killed by signal {-done.returncode}"
        )
        raise CompileError(f"compiling {source} failed: the compiler's process {how}") from None
    raise kind(message)


def run_job() -> int:
    """What the other process does: read a job from stdin, compile, answer on stdout; the exit code."""
    from .compiler import compile_model
    from .progress_bar import ProgressBar

    job = json.load(sys.stdin)
    options = dict(job["options"])
    if options.get("dump_ir") is not None:
        options["dump_ir"] = Path(options["dump_ir"])
    try:
        if job["show"]:
            with ProgressBar() as progress:
                made = compile_model(job["source"], job["output"], progress=progress, **options)
        else:
            made = compile_model(job["source"], job["output"], **options)
    except IngotError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        return 1
    except KeyboardInterrupt:  # the process that waits for this one got it too, and says what there is to say
        return 130
    report = Report(made.num_bytes, made.seconds, made.peak_memory_bytes)
    sys.stdout.buffer.write(msgspec.json.encode(report))
    return 0
