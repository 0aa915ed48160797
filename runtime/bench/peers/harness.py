"""Measure one peer: ``PYTHON harness.py MODULE REQUEST``; one JSON document on stdout.

This and the peers' modules run with another Python than ingot's, so they are plain files that need nothing of
ingot. A module has ``load(request)``, which gives a function that answers prompts of token ids greedily, so
many tokens each, all at once, and returns how many prompt tokens it was given after all.

A request holds ``model``, ``device`` (``cpu`` or ``gpu``), ``threads``, ``prompt_tokens``, ``output_tokens``,
``concurrency`` (a list), ``rounds`` and ``vocab_size``. Rates are those of ``ingot bench``: prompt tokens a
second until each request has its first token; tokens of all answers a second behind that; tokens of all
answers over the whole time. What a peer does not tell of its steps follows from answers of one token and
answers of many.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from random import Random
from statistics import median
from typing import Any

__all__ = ["NOT_INSTALLED", "main", "measure"]

Request = dict[str, Any]
Generate = Callable[[list[list[int]], int], int]

NOT_INSTALLED = 3
"""The exit code where the peer cannot be imported."""


def measure(generate: Generate, request: Request) -> list[dict[str, float]]:
    """Rates at each concurrency."""
    random = Random(0)
    output_tokens = request["output_tokens"]
    common = range(request["vocab_size"] // 32, request["vocab_size"] * 31 // 32)

    def run(count: int, num_prompt_tokens: int, num_output_tokens: int) -> tuple[float, int]:
        prompts = [random.choices(common, k=num_prompt_tokens) for _ in range(count)]
        started = time.perf_counter()
        num_tokens = generate(prompts, num_output_tokens)
        return time.perf_counter() - started, num_tokens

    runs = []
    for count in request["concurrency"]:
        run(count, min(32, request["prompt_tokens"]), 2)
        rounds = []
        for _ in range(request["rounds"]):
            prefill, num_tokens = run(count, request["prompt_tokens"], 1)
            whole, _ = run(count, request["prompt_tokens"], output_tokens)
            decode = max(whole - prefill, 1e-9)
            rounds.append(
                (num_tokens / prefill, count * (output_tokens - 1) / decode, count * output_tokens / whole)
            )
        names = ("prefill_tok_s", "decode_tok_s", "output_tok_s")
        rates = dict(zip(names, map(median, zip(*rounds))))  # noqa: B905 (older Pythons)
        runs.append({"concurrency": count, **rates})
    return runs


def main() -> None:
    """Load, measure, and print."""
    module, request = sys.argv[1], json.loads(sys.argv[2])
    _use_threads(request["threads"])
    # What the peer prints, by whatever means, is not the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        load = importlib.import_module(module).load
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    started = time.perf_counter()
    generate, most = load(request)
    load_s = time.perf_counter() - started
    request["concurrency"] = [count for count in request["concurrency"] if count <= most]
    json.dump({"load_s": load_s, "runs": measure(generate, request)}, answer)
    answer.close()
    # Some peers do not end by themselves.
    os._exit(0)


def _use_threads(threads: int) -> None:
    """Bind this process to as many cores, for peers that count these, and tell those that ask."""
    os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


if __name__ == "__main__":
    main()
