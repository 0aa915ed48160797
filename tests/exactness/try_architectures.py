"""Try every causal language model of transformers through torch.export, and print how far it came.

::

    python tests/exactness/try_architectures.py [MODEL_TYPE]... [--compile] [--keep FILE] [--update-checked]

Each is made with a tiny random checkpoint, saved as transformers saves it, taken in by tracing, and run by
the interpreter; with ``--compile`` it is compiled and run as well. Log-probabilities are compared with those
of transformers over one sequence: within 1e-4 they match. With ``--keep``, a run that was stopped goes on
where it was, and several runs make one. With ``--update-checked``, what was found goes where ``ingot models``
and docs/architectures.md have it from.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

if not __package__:  # run as a program
    __package__ = "ingot.tests.exactness"

from .checked import update_architectures
from .page import summary
from .tiny_configs import causal_models
from .trying import Outcome, try_one

CPU_SECONDS_EACH = 150
SECONDS_EACH = 600
MEMORY_BYTES = 8 * 2**30
ARCHITECTURES_A_PROCESS = 20
"""TVM and torch keep some memory of each; and what comes after a crash is the same as without."""


def main() -> None:
    """Try them one after the other, in processes that cannot take the others with them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model_types", nargs="*", metavar="MODEL_TYPE", help="all unless given")
    parser.add_argument("--compile", action="store_true", help="compile each and run it, too")
    parser.add_argument("--keep", type=Path, help="append outcomes there; do not try again what is there")
    parser.add_argument("--update-checked", action="store_true", help="write what was found down")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        serve(options.compile)
        return
    if options.update_checked and not options.compile:
        parser.error("--update-checked needs --compile: what is written down says what compiles")
    classes = causal_models()
    wanted = options.model_types or list(classes)
    if unknown := [name for name in wanted if name not in classes]:
        parser.error(f"transformers has no causal language model of type {', '.join(unknown)}")
    kept = {} if options.keep is None else read_kept(options.keep)
    found = {name: kept[name] for name in wanted if name in kept}
    for outcome in try_all([name for name in wanted if name not in found], options.compile):
        found[outcome.model_type] = outcome
        if options.keep is not None:
            with options.keep.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        difference = outcome.compiled if options.compile else outcome.interpreted
        number = "" if difference is None else f"{difference:.1e}"
        print(f"{outcome.model_type:28} {outcome.stage:12} {number:8} {outcome.why}", flush=True)
    checked = {name: found[name].checked() for name in wanted}
    print(summary(checked))
    if options.update_checked:
        update_architectures(checked)


def read_kept(path: Path) -> Mapping[str, Outcome]:
    """Outcomes of earlier runs, by model type."""
    lines = path.read_text().splitlines() if path.exists() else []
    outcomes = [Outcome(**json.loads(line)) for line in lines]
    return {outcome.model_type: outcome for outcome in outcomes}


def try_all(wanted: Sequence[str], to_compile: bool) -> Iterator[Outcome]:
    """Outcomes in order."""
    worker: Worker | None = None
    for count, model_type in enumerate(wanted):
        if worker is None or worker.is_gone or count % ARCHITECTURES_A_PROCESS == 0:
            if worker is not None:
                worker.stop()
            worker = Worker(to_compile)
        yield worker.ask(model_type)
    if worker is not None:
        worker.stop()


class Worker:
    """A process that tries what it is told to, one line an architecture."""

    def __init__(self, to_compile: bool) -> None:
        command = [sys.executable, __file__, "--one", *(["--compile"] if to_compile else [])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    @property
    def is_gone(self) -> bool:
        """Whether it crashed or was stopped."""
        return self._process.poll() is not None

    def ask(self, model_type: str) -> Outcome:
        """What it answers, or that it died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(model_type + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                return Outcome(**json.loads(line))
        ended_by = -self._process.wait()
        too_long = {
            signal.SIGPROF: f"{CPU_SECONDS_EACH} seconds of a core",
            signal.SIGALRM: f"{SECONDS_EACH} seconds",
        }
        how = (
            f"took more than {too_long[ended_by]}"
            if ended_by in too_long
            else f"ended its process ({-ended_by})"
        )
        return Outcome(model_type, "built", why=how)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def serve(to_compile: bool) -> None:
    """Try each architecture named on stdin and answer on stdout."""
    import torch

    os.nice(5)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
    classes = causal_models()
    if to_compile:
        from ingot.codegen.tvm_compiler import prepare_compiler

        prepare_compiler()
        import tvm  # noqa: F401
    for line in sys.stdin:
        # Both end the process: one that computes, one that waits.
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_EACH)
        signal.alarm(SECONDS_EACH)
        outcome = try_one(line.strip(), classes[line.strip()], to_compile)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
