"""How long a token takes behind contexts of several lengths, and what its keys and values take at least.

::

    python tests/perf/context_curve.py model.ingot --json curve.json

A step that decodes one token is run on a cache that is written, but whose keys and values mean nothing: how
long it takes does not depend on them. At least it takes what it takes behind the shortest context, and then
the time in which memory gives the bytes of keys and values that are read besides.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ingot.runtime.bench.counting import count_work
from ingot.runtime.bench.host_limits import measure_host
from ingot.runtime.bench.step_profile import StepProfiler
from ingot.runtime.engine.engine_stats import PhaseSeconds
from ingot.runtime.execution.artifact import open_artifact

CONTEXTS = (100, 250, 500, 1000, 2000, 4000, 8000)


def main() -> None:
    """Measure, and write or print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument(
        "--contexts", type=lambda text: [int(part) for part in text.split(",")], default=CONTEXTS
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each is repeated")
    parser.add_argument("--json", dest="json_file", type=Path, metavar="FILE")
    options = parser.parse_args()
    artifact = open_artifact(options.artifact)
    host, work = measure_host(artifact), count_work(artifact)
    contexts = sorted(n for n in options.contexts if n <= artifact.manifest.model.max_seq_len)
    profiler = StepProfiler(
        artifact,
        work,
        host,
        max_num_seqs=1,
        max_num_tokens=1,
        context_tokens=contexts[-1],
        seconds=options.seconds,
    )
    points = []
    for context in contexts:
        step = profiler.decode(1, context, PhaseSeconds())
        attention = sum(group.ms for group in step.groups if group.name == "attention")
        points.append(
            {
                "context": context,
                "ms": step.step_ms,
                "attention_ms": attention,
                "kv_bytes": work.kv_bytes(context),
            }
        )
    profiler.close()
    found = {"read_gb_s": host.read_gb_s, "points": points}
    if options.json_file is not None:
        options.json_file.write_text(json.dumps(found, indent=2) + "\n")
    for point in points:
        print(f"{point['context']:6d} tokens: {point['ms']:.2f} ms, attention {point['attention_ms']:.2f} ms")


if __name__ == "__main__":
    main()
