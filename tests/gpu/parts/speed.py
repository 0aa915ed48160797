"""``ingot bench`` of a shape with random weights: ``speed.py ARTIFACT.ingot [--dry]``."""

import functools
import json
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from blake3 import blake3
from ingot.runtime.bench import BenchOptions, benchmark, gpu_limits, run_benchmark
from ingot.targets import read_manifest, write_manifest

RUNS = (
    BenchOptions(prompt_tokens=512, output_tokens=128, concurrency=(1, 64), rounds=2, profile=True),
    BenchOptions(prompt_tokens=2048, output_tokens=8, concurrency=(1,), rounds=2),
)
DRY_RUNS = (BenchOptions(prompt_tokens=6, output_tokens=3, concurrency=(1, 2), rounds=1),)
SOME = 1 << 22
"""Random numbers, which come again and again: making each anew takes longer than measuring."""


def main() -> None:
    path = Path(sys.argv[1])
    if not (path / "params" / "weights.bin").exists():
        make_weights(path)
    if "--dry" in sys.argv:
        few = {"vectors": 4096, "blocks": 2, "rounds": 2}
        benchmark.measure_gpu = functools.partial(gpu_limits.measure_gpu, symbols=few, seconds=0.1)
    record = {}
    for options in DRY_RUNS if "--dry" in sys.argv else RUNS:
        options = replace(options, device="cuda", first_token=False)
        found = json.loads(msgspec.json.encode(run_benchmark(path, options)))
        runs = [*record.get("runs", ()), *({**run, "quant": found["quant"]} for run in found["runs"])]
        profile = [*record.get("profile", ()), *found["profile"]]
        record = {**found, "runs": runs, "profile": profile}
    print(json.dumps(record))


def make_weights(path: Path) -> None:
    """Random weights of the sizes that the manifest names: codes are random bytes, floats small."""
    manifest = read_manifest(path)
    (file,) = (file for file in manifest.files if file.path == "params/weights.bin")
    random = np.random.default_rng(0)
    floats = random.standard_normal(SOME, np.float32) * np.float32(0.02)
    some = {
        "float32": floats,
        "float16": floats.astype(np.float16),
        "uint16": (floats.view(np.uint32) >> 16).astype(np.uint16),  # bfloat16
    }
    codes = random.integers(0, 256, SOME, np.uint8)
    (path / "params").mkdir(exist_ok=True)
    data = np.memmap(path / "params" / "weights.bin", np.uint8, "w+", shape=(file.num_bytes,))
    for parameter in manifest.parameters:
        for record in parameter.arrays:
            values = some.get(record.dtype, codes).view(np.uint8)
            num_bytes = int(np.prod(record.shape)) * np.dtype(record.dtype).itemsize
            for start in range(0, num_bytes, len(values)):
                part = values[: num_bytes - start]
                data[record.offset + start : record.offset + start + len(part)] = part
    data.flush()
    known = msgspec.structs.replace(file, blake3=blake3(data.data, max_threads=blake3.AUTO).hexdigest())
    files = tuple(known if one.path == file.path else one for one in manifest.files)
    write_manifest(path, msgspec.structs.replace(manifest, files=files))


main()
