"""A compiled graph outside of ingot: in plain onnxruntime, and in ONNX Runtime GenAI."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ingot import Engine, SamplingParams
from ingot.codegen import compile_model

ROOT = Path(__file__).parents[2]
PROMPT = "Paris is"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "tinychat.ingot"
    compile_model(ROOT / "examples" / "tinychat" / "model", folder, backend="onnx", quant="int8")
    return folder


@pytest.fixture(scope="module")
def engine(artifact: Path) -> Iterator[Engine]:
    with Engine(artifact) as engine:
        yield engine


def test_the_example_runs_it_with_onnxruntime_alone(artifact: Path, engine: Engine) -> None:
    line = [sys.executable, "-P", str(ROOT / "examples" / "plain_onnx.py"), str(artifact), PROMPT]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    output = engine.generate(PROMPT, SamplingParams(max_tokens=16, temperature=0.0, ignore_eos=True))
    assert done.stdout.strip() == (PROMPT + output.text).strip()


def test_genai_runs_the_same_weights(artifact: Path, engine: Engine) -> None:
    genai = pytest.importorskip("onnxruntime_genai")
    model = genai.Model(str(artifact / "onnx"))
    tokens = [int(token) for token in genai.Tokenizer(model).encode(PROMPT)]
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=24)
    generator = genai.Generator(model, params)
    generator.append_tokens(tokens)
    while len(generator.get_sequence(0)) < 24:
        generator.generate_next_token()
    sequence = [int(token) for token in generator.get_sequence(0)]
    rows = engine.score(sequence)[len(tokens) - 1 : -1]
    chosen = sequence[len(tokens) :]
    # Both round rows to eight bits, ours after another kernel for keys and values of 16 bits.
    assert np.all(rows.max(axis=-1) - rows[np.arange(len(chosen)), chosen] < 0.1)


def test_nothing_of_the_compiler_is_needed_to_run_it(artifact: Path) -> None:
    code = (
        "import sys; from ingot import Engine, SamplingParams\n"
        f"with Engine({str(artifact)!r}) as engine:\n"
        "    engine.generate([1, 2, 3], SamplingParams(max_tokens=2))\n"
        "print([name for name in ('onnx', 'torch', 'tvm', 'ingot.codegen') if name in sys.modules])"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT.parent, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
