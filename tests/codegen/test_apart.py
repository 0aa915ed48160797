"""Compiling beside an engine: another process does it, and nobody can tell."""

import json
import subprocess
import sys
from pathlib import Path

TINYCHAT = Path(__file__).parents[2] / "examples" / "tinychat" / "model"

SCRIPT = """
import json, sys
import ingot
from ingot import SamplingParams
source, first, second = sys.argv[1:]
ingot.compile(source, first, quant="int8")
"""

BESIDE = """
import json, sys
import ingot
from ingot import SamplingParams
source, first, second = sys.argv[1:]
with ingot.Engine(first) as engine:
    before = engine.generate("Once upon a time", SamplingParams(max_tokens=8, temperature=0.0)).token_ids
    made = ingot.compile(source, second, quant="int8", max_seq_len=128)
    try:
        ingot.compile(source, second, quant="int8")
        refused = None
    except ingot.IngotError as error:
        refused = [type(error).__name__, str(error)]
with ingot.Engine(made) as engine:
    after = engine.generate("Once upon a time", SamplingParams(max_tokens=8, temperature=0.0)).token_ids
print(json.dumps({
    "same": list(before) == list(after), "refused": refused, "bytes": made.num_bytes,
    "max_seq_len": made.manifest.model.max_seq_len, "peak": made.peak_memory_bytes,
}))
"""


def run(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_with_an_engine_compiles_all_the_same(tmp_path: Path) -> None:
    first, second = tmp_path / "first.ingot", tmp_path / "second.ingot"
    run(SCRIPT, TINYCHAT, first, second)
    told = json.loads(run(BESIDE, TINYCHAT, first, second))
    assert told["same"]
    assert told["max_seq_len"] == 128
    assert told["refused"][0] == "CompileError"
    assert "--force" in told["refused"][1]
    assert told["bytes"] == sum(path.stat().st_size for path in second.rglob("*") if path.is_file())
    assert told["peak"] > 0
