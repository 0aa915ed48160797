"""An artifact on the GPU against log-probabilities recorded before: ``exact.py ARTIFACT.ingot``."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ingot.runtime.engine.engine import Engine
from ingot.runtime.sampling.sampling_params import SamplingParams
from ingot.targets import read_manifest
from ingot.targets.recorded_scores import RecordedScores

LEAST_ALIKE = 0.9
"""Of answers: a number that falls on the edge between two tokens may fall either way."""


def main() -> None:
    path = Path(sys.argv[1])
    about = json.loads(path.with_suffix(".json").read_text())
    if read_manifest(path).model.task != "generate":
        compare_vectors(path, about)
        return
    scores = RecordedScores(path.with_name(about["scores"]))
    manifest = read_manifest(path)
    sizes = {"max_num_seqs": 8, "max_num_batched_tokens": min(64, manifest.memory.max_step_tokens)}
    with Engine(path, device="cuda", kv_memory="64MiB", **sizes) as engine:
        differences, divergences = [], []
        for window in scores.windows:
            expected, found = np.asarray(scores.score(window)), engine.score(window)
            differences.append(np.abs(expected - found).ravel())
            divergences.append((np.exp(expected) * (expected - found)).sum(axis=1))
        alike = drawn_alike(engine, [window[:12] for window in scores.windows])
    far = np.concatenate(differences)
    record = {
        "max_abs_diff": float(far.max()),
        "median_diff": float(np.median(far)),
        "kl_mean": float(np.concatenate(divergences).mean()),
        "drawn_alike": alike,
    }
    passed = alike > LEAST_ALIKE and all(record[name] < limit for name, limit in about["limits"].items())
    print(json.dumps({"passed": passed, **record, "reference": about["reference"]}))


def compare_vectors(path: Path, about: dict[str, Any]) -> None:
    """Vectors side by side, and each alone, which must be the same bits."""
    recorded = np.load(path.with_name(about["scores"]))
    sequences = [recorded[name].tolist() for name in sorted(recorded.files) if name != "vectors"]
    expected = recorded["vectors"]
    with Engine(path, device="cuda") as engine:
        found = engine.embed(sequences)
        alone = np.concatenate([engine.embed([sequence]) for sequence in sequences])
    difference = float(np.abs(found - expected).max())
    record = {"max_abs_diff": difference, "alike_alone": bool(np.array_equal(found, alone))}
    passed = record["alike_alone"] and difference < about["limits"]["max_abs_diff"]
    print(json.dumps({"passed": passed, **record, "reference": about["reference"]}))


def drawn_alike(engine: Engine, prompts: list[list[int]]) -> float:
    """The share of answers that are the same whether their tokens are drawn on the device or on the host."""
    same = []
    for settings in (
        {"temperature": 0.0},
        {"top_k": 30},
        {"top_p": 0.9, "repetition_penalty": 1.2},
        {"min_p": 0.01},
    ):
        params = {"max_tokens": 6, "seed": 5, "ignore_eos": True, **settings}
        answers = [
            [list(answer.token_ids) for answer in engine.generate(prompts, SamplingParams(**params, **how))]
            for how in ({}, {"logprobs": 0})
        ]
        same += [ours == theirs for ours, theirs in zip(*answers, strict=True)]
    return sum(same) / len(same)


main()
