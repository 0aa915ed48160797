"""Measure everything that ``docs/performance.md`` shows, and write its tables and plots.

::

    python tests/perf/performance.py MODEL --work DIR --write \\
        --peer llama.cpp=PYTHON --peer vllm=PYTHON --peer-model model-q4_0.gguf --peer-model MODEL

MODEL is a Hugging Face folder; the document is about one of Llama-3.2-1B's shapes. Let nothing else run on
the machine meanwhile. What was measured lies in DIR, a JSON file for each part: run again, only parts that
are missing are measured (``--again PART`` for one that is not). About fifteen minutes on two cores with all
peers.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from performance_page import DOCUMENT, PARTS_OF_PAGE, write_page

_HERE = Path(__file__).parent
_INGOT = (sys.executable, "-P", "-m", "ingot")

_ALONE = ("--prompt-tokens", "512", "--output-tokens", "64", "--concurrency", "1")
_TOGETHER = ("--prompt-tokens", "128", "--output-tokens", "64", "--concurrency", "16")

ARTIFACTS = {
    "int4": ("--quant", "int4"),
    "bfloat16": ("--quant", "none", "--dtype", "bfloat16"),
    "int4-avx2": ("--quant", "int4", "--target", "cpu:x86-64-v3"),
    "int4-kv8": ("--quant", "int4", "--kv-cache", "int8"),
}
"""What is compiled, and with which options."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something to measure: what it writes its JSON with, but for the artifact and the file."""

    artifact: str
    command: Callable[[Path, Path], Sequence[str]]


def _bench(*options: str) -> Callable[[Path, Path], Sequence[str]]:
    return lambda artifact, file: (*_INGOT, "bench", str(artifact), *options, "--json", str(file))


def _curve(artifact: Path, file: Path) -> Sequence[str]:
    return (sys.executable, "-P", str(_HERE / "context_curve.py"), str(artifact), "--json", str(file))


def parts(peers: Sequence[str], rounds: int) -> dict[str, Part]:
    """Every part by its name, in order; peers last, as they take longest, between two of ingot's own runs."""
    again = ("--rounds", str(rounds))
    profiled = (*again, "--profile")
    found = {
        "int4-alone": Part("int4", _bench(*_ALONE, *profiled)),
        "int4-together": Part("int4", _bench(*_TOGETHER, *profiled)),
        "bfloat16-alone": Part("bfloat16", _bench(*_ALONE, *profiled)),
        "bfloat16-together": Part("bfloat16", _bench(*_TOGETHER, *profiled)),
        "avx2-alone": Part("int4-avx2", _bench(*_ALONE, *profiled)),
        "avx2-together": Part("int4-avx2", _bench(*_TOGETHER, *again)),
        "context": Part("int4", _curve),
        "context-kv8": Part("int4-kv8", _curve),
    }
    if peers:
        found["peers-alone"] = Part("int4", _bench(*_ALONE, "--rounds", "1", "--compare", *peers))
        found["peers-together"] = Part("int4", _bench(*_TOGETHER, "--rounds", "1", "--compare", *peers))
    return found


def _compile(model: Path, work: Path, name: str) -> Path:
    artifact = work / f"{name}.ingot"
    if not artifact.exists():
        _run((*_INGOT, "compile", str(model), "-o", str(artifact), *ARTIFACTS[name]))
    return artifact


def _run(command: Sequence[str]) -> None:
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    started = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}")
    print(f"  {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def main() -> None:
    """Measure what is missing, then write the page; exit with 1 where a part failed, behind all others."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="a Hugging Face folder")
    parser.add_argument("--work", type=Path, required=True, help="keeps artifacts and what was measured")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--peer-model", action="append", default=[], metavar="PATH")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", metavar="PART", choices=PARTS_OF_PAGE)
    parser.add_argument("--again", action="append", default=[], metavar="PART", choices=PARTS_OF_PAGE)
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name} and its plots")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    peers = [word for peer in options.peer for word in ("--peer", peer)]
    peers += [word for path in options.peer_model for word in ("--peer-model", path)]
    failed = []
    for name, part in parts(peers, options.rounds).items():
        file = options.work / f"{name}.json"
        if (options.only and name not in options.only) or (file.exists() and name not in options.again):
            continue
        staged = file.with_suffix(".part")
        try:
            _run(part.command(_compile(options.model, options.work, part.artifact), staged))
            json.loads(staged.read_text())
            staged.replace(file)
        except (RuntimeError, OSError, json.JSONDecodeError) as error:
            failed.append(name)
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    if options.write:
        write_page(options.work)
    if failed:
        sys.exit(f"Error: not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
