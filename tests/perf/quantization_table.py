"""What every weight format costs tinychat, as the markdown table of ``docs/quantization.md``.

    python tests/perf/quantization_table.py [--work DIR] [--only REGEX] [--json FILE] [--caches]

Every format and every way to quantize is compiled and run, and compared over stories that tinychat was not
trained on with the model as it is, which the interpreter computes in float32. Weights are calibrated on other
stories and conversations. Takes about half a minute a row on two idle cores. With ``--caches`` the rows are
of what keys and values can be kept as.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples" / "tinychat" / "model"
TEXT_TOKENS, CALIBRATION_TOKENS, WINDOW = 4096, 8192, 512

ROUNDED = (
    *("none", "int8", "int7", "int6", "int5", "int4", "int3", "int2"),
    *("int8_row", "int4_g64", "int4_g128", "int4_g32_z", "int4_g64_fz"),
    *("q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "q3_k", "q2_k", "iq4_nl", "iq4_xs"),
    *("fp8_e4m3_row", "fp8_e4m3_g128", "mxfp4", "nvfp4", "nf4_g64"),
)
CALIBRATED = (
    "int5",
    "int4",
    "int3",
    "int2",
    "q6_k",
    "q4_k",
    "q3_k",
    "q2_k",
    "iq4_xs",
    "mxfp4",
    "nvfp4",
    "nf4_g64",
)
CACHES = ("float16", "bfloat16", "int8", "int4")
SIZED = ("3.2MiB", "2.7MiB", "2.6MiB", "2.3MiB", "2.1MiB", "1.9MiB")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    quant: str
    method: str
    weight_bytes: int
    bits_per_weight: float
    kl_mean: float
    kl_max: float
    perplexity: float
    reference_perplexity: float
    top1_agreement: float
    decode_tok_s: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="keeps texts and artifacts")
    parser.add_argument("--only", default="", help="rows whose 'FORMAT METHOD' this finds")
    parser.add_argument("--json", type=Path, help="write the rows as JSON, too")
    parser.add_argument("--caches", action="store_true", help="make the table of keys and values")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))  # the example is no part of the package
    with tempfile.TemporaryDirectory() as temporary:
        if options.caches:
            print_caches(options.work or Path(temporary), options.only)
            return
        rows = list(measure(options.work or Path(temporary), options.only))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    print_table(rows)


def combinations() -> Iterator[tuple[str, str, str | None]]:
    """Formats, methods, and the size that formats are chosen for."""
    for quant in ROUNDED:
        yield quant, "rtn", None
    for quant in CALIBRATED:
        for method in ("imatrix", "awq", "gptq"):
            yield quant, method, None
    for quant in ("int4_g64_fz", "int3_g64_fz"):
        for method in ("rtn", "hqq", "gptq"):
            yield quant, method, None
    for size in SIZED:
        yield "auto", "gptq", size


def measure(work: Path, only: str) -> Iterator[Row]:
    """A row for each combination that can be compiled; others are named on stderr."""
    from ingot.codegen import compile_model
    from ingot.ir.errors import IngotError
    from ingot.runtime.verification.judging import judge_apart

    work.mkdir(parents=True, exist_ok=True)
    calibration, scores = prepare(work)
    done: set[tuple[str, str, str | None]] = set()
    for quant, method, size in combinations():
        if (quant, method, size) in done or not re.search(only, f"{quant} {method}"):
            continue
        done.add((quant, method, size))
        reads_text = method not in ("rtn", "hqq")
        try:
            artifact = compile_model(
                MODEL,
                work / "candidate.ingot",
                quant=quant,
                method=method,
                calibrate=calibration if reads_text else None,
                size=size,
                force=True,
            )
            found = judge_apart(artifact.path, scores)
        except IngotError as error:
            print(f"{quant} {method}: {error}", file=sys.stderr)
            continue
        manifest = artifact.manifest
        row = Row(
            quant if size is None else f"auto, {size}",
            method,
            manifest.memory.weight_bytes,
            8 * manifest.memory.weight_bytes / manifest.model.num_parameters,
            found.kl_mean,
            found.kl_max,
            found.perplexity,
            found.reference_perplexity,
            found.top1_agreement,
            found.decode_tok_s,
        )
        print(line(row), file=sys.stderr, flush=True)
        yield row


def print_caches(work: Path, only: str) -> None:
    """The table of what keys and values are kept as, beside weights as they are and in 4 bits."""
    from ingot.codegen import compile_model
    from ingot.runtime.verification.judging import judge_apart

    work.mkdir(parents=True, exist_ok=True)
    _, scores = prepare(work)
    print("| weights | keys and values | bytes a token | KL, nats | largest KL | same likeliest |")
    print("|---|---|---:|---:|---:|---:|")
    for quant in ("none", "int4"):
        for cache in CACHES:
            if not re.search(only, f"{quant} {cache}"):
                continue
            path = work / "candidate.ingot"
            artifact = compile_model(MODEL, path, quant=quant, kv_cache=cache, force=True)
            found = judge_apart(artifact.path, scores)
            print(
                f"| {quant} | {cache} | {artifact.manifest.memory.kv_bytes_per_token} | {found.kl_mean:.5f} "
                f"| {found.kl_max:.3f} | {found.top1_agreement:.2%} |",
                flush=True,
            )


def prepare(work: Path) -> tuple[Path, Path]:
    """The text to calibrate on, and the scores of the one to compare on."""
    from ingot.codegen.calibrating import read_windows
    from ingot.frontend import load_model
    from ingot.passes import PipelineOptions, fusing_passes, run_passes
    from ingot.passes.calibration import cut_layers, score
    from ingot.targets.recorded_scores import write_scores
    from transformers import AutoTokenizer

    from examples.tinychat.corpus import Document, training_set
    from examples.tinychat.vocabulary import render

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    stories = [render(tokenizer, item) for item in training_set(202, 1500) if isinstance(item, Document)]
    others = [render(tokenizer, item) for item in training_set(101, 2400) if isinstance(item, Document)]
    talks = [render(tokenizer, item) for item in training_set(101, 120) if not isinstance(item, Document)]
    text, calibration, scores = work / "stories.txt", work / "calibration.txt", work / "scores"
    text.write_text("".join(stories))
    calibration.write_text("".join(part for pair in zip(others, talks, strict=False) for part in pair))
    if not scores.exists():
        windows = read_windows(text, MODEL, window_tokens=WINDOW, most_tokens=TEXT_TOKENS)
        model = load_model(MODEL)
        module = run_passes(model.module, fusing_passes(PipelineOptions(max_seq_len=1024))).module
        layers = cut_layers(module)
        found = score(module, layers, model.weights.read, windows)
        write_scores(scores, [np.asarray(window) for window in windows], found)
    return calibration, scores


def print_table(rows: list[Row]) -> None:
    print("| format | by | bits a weight | MiB | KL, nats | largest KL | perplexity | same likeliest |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(line(row))


def line(row: Row) -> str:
    return (
        f"| {row.quant} | {row.method} | {row.bits_per_weight:.2f} | {row.weight_bytes / 2**20:.2f} "
        f"| {row.kl_mean:.5f} | {row.kl_max:.3f} | {row.perplexity:.4f} | {row.top1_agreement:.2%} |"
    )


if __name__ == "__main__":
    main()
