"""GGUF's types on tinychat, as llama.cpp runs them and as ingot does: a table of ``docs/quantization.md``.

    INGOT_LLAMA_CPP=/path/to/its/python python tests/perf/llama_cpp_table.py [--work DIR] [TYPE ...]

llama.cpp makes the files. Both are compared, over the stories of :mod:`quantization_table`, with the model in
float32, and with each other.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from quantization_table import MODEL, ROOT, prepare

TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "IQ4_NL", "IQ4_XS", "Q4_0", "Q3_K_M", "Q2_K")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", metavar="TYPE", default=TYPES)
    parser.add_argument("--work", type=Path, help="keeps texts, files and artifacts")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))  # tests and examples are no part of the package
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        print("| type | MiB | KL, llama.cpp | KL, ingot | KL between them | same likeliest |")
        print("|---|---:|---:|---:|---:|---:|")
        for kind in options.types:
            print(row(kind, work), flush=True)


def row(kind: str, work: Path) -> str:
    """A line of the table."""
    from ingot.codegen import compile_model
    from ingot.runtime.verification.judging import judge_apart
    from ingot.runtime.verification.verification import compare
    from ingot.targets.recorded_scores import RecordedScores

    from tests import llama_cpp_peer
    from tests.gguf_files import write_gguf

    _, recorded = prepare(work)
    plain, path, theirs = work / "tinychat.gguf", work / f"tinychat-{kind}.gguf", work / f"scores-{kind}"
    if not plain.exists():
        write_gguf(MODEL, plain, choose=lambda name, shape: "BF16")
    if not theirs.exists():
        llama_cpp_peer.score(llama_cpp_peer.quantize(plain, path, kind), recorded, theirs)
    scores, peer = RecordedScores(recorded), RecordedScores(theirs)
    artifact = compile_model(path, work / f"tinychat-{kind}.ingot", force=True)
    of_peer = compare(peer.score, scores.score, scores.windows)
    ours = judge_apart(artifact.path, recorded)
    between = judge_apart(artifact.path, theirs)
    return (
        f"| {kind} | {path.stat().st_size / 2**20:.2f} | {of_peer.kl_mean:.5f} | {ours.kl_mean:.5f} "
        f"| {between.kl_mean:.5f} | {between.top1_agreement:.2%} |"
    )


if __name__ == "__main__":
    main()
