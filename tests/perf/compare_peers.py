"""Compare ``ingot bench`` with other inference systems on this machine, in turns.

::

    python tests/perf/compare_peers.py model.ingot \\
        --peer 'llama.cpp q4_0=python peer_llama_cpp.py model-q4_0.gguf'

A peer is any command that prints its rates, in tokens a second, as ``prefill X tok/s`` and ``decode Y
tok/s`` (each once; a line may hold both). It should do what ingot does: a prompt of 512 tokens and an answer
of 64, one request at a time, on as many threads. The machine's speed drifts, and with it every figure, so
ingot and the peers take turns, each turn in a process of its own, and the medians over the turns are
compared.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

__all__ = ["Peer", "Rates", "compare", "parse_peer", "read_rates"]

_PREFILL = re.compile(r"prefill\s+([\d.]+)\s*tok/s")
_DECODE = re.compile(r"decode\s+([\d.]+)\s*tok/s")
_OURS = "ingot"


class PeerError(Exception):
    """A command failed, or printed no rates."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another system: its name and the command that measures it."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second."""

    prefill: float
    decode: float


def parse_peer(text: str) -> Peer:
    """The peer written ``NAME=COMMAND``; raises :class:`argparse.ArgumentTypeError`."""
    name, equals, command = text.partition("=")
    if not (name.strip() and equals and command.strip()):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=COMMAND")
    return Peer(name.strip(), tuple(shlex.split(command)))


def read_rates(output: str) -> Rates:
    """The rates in what a peer printed; raises :class:`PeerError` where there are none."""
    prefill, decode = _PREFILL.search(output), _DECODE.search(output)
    if prefill is None or decode is None:
        raise PeerError(f"no 'prefill X tok/s' and 'decode Y tok/s' in: {output.strip()[-300:]!r}")
    return Rates(float(prefill[1]), float(decode[1]))


def compare(turns: Mapping[str, Sequence[Rates]]) -> str:
    """A table of medians over turns, and how many times as fast ingot is, in Markdown."""
    medians = {
        name: Rates(median(turn.prefill for turn in rates), median(turn.decode for turn in rates))
        for name, rates in turns.items()
    }
    ours = medians[_OURS]
    lines = [
        "| system | prefill tok/s | decode tok/s | ingot's prefill | ingot's decode |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, rates in medians.items():
        ratios = (
            ("", "")
            if name == _OURS
            else (f"{ours.prefill / rates.prefill:.2f}x", f"{ours.decode / rates.decode:.2f}x")
        )
        lines.append(f"| {name} | {rates.prefill:.1f} | {rates.decode:.2f} | {ratios[0]} | {ratios[1]} |")
    return "\n".join(lines)


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(f"{shlex.join(command)} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _measure_ingot(artifact: Path, prompt_tokens: int, output_tokens: int) -> Rates:
    command = [
        sys.executable,
        "-P",
        "-m",
        "ingot",
        "bench",
        str(artifact),
        "--concurrency",
        "1",
        "--rounds",
        "1",
    ]
    command += ["--prompt-tokens", str(prompt_tokens), "--output-tokens", str(output_tokens), "--json", "-"]
    run = json.loads(_run(command))["runs"][0]
    return Rates(run["prefill_tok_s"], run["decode_tok_s"])


def main() -> None:
    """Measure in turns and print the table; exit with 1 where a command fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument(
        "--peer", dest="peers", type=parse_peer, action="append", default=[], metavar="NAME=COMMAND"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--output-tokens", type=int, default=64)
    options = parser.parse_args()
    turns: dict[str, list[Rates]] = {_OURS: [], **{peer.name: [] for peer in options.peers}}
    try:
        for turn in range(1, options.turns + 1):
            turns[_OURS].append(
                _measure_ingot(options.artifact, options.prompt_tokens, options.output_tokens)
            )
            for peer in options.peers:
                turns[peer.name].append(read_rates(_run(peer.command)))
            for name, rates in turns.items():
                print(f"turn {turn}: {name}: {rates[-1]}", file=sys.stderr)
    except PeerError as error:
        sys.exit(f"Error: {error}")
    print(compare(turns))


if __name__ == "__main__":
    main()
