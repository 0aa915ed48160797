"""Comparing with other systems; none of them is installed where tests run."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from ingot.runtime.bench import PEERS, BenchRecord, Comparison
from ingot.runtime.bench.peers import harness, measure_peers
from ingot.runtime.bench.records import (
    FractionOfLimit,
    HostRecord,
    PeerRecord,
    PeerRun,
    Percentiles,
    RunRecord,
)
from ingot.runtime.bench.report import print_report
from ingot.runtime.commands.bench import bench

_REQUEST = {
    "threads": 1,
    "device": "cpu",
    "prompt_tokens": 10,
    "output_tokens": 5,
    "concurrency": [1, 3],
    "rounds": 2,
    "vocab_size": 320,
}


def test_rates_follow_from_answers_of_one_token_and_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])

    def generate(prompts: list[list[int]], num_output_tokens: int) -> int:
        # A tenth of a second a prompt token, one a step behind the first answer's token.
        assert all(10 <= token < 310 for prompt in prompts for token in prompt)
        clock[0] += sum(map(len, prompts)) / 10 + num_output_tokens - 1
        return sum(map(len, prompts))

    alone, together = harness.measure(generate, dict(_REQUEST))
    assert alone == pytest.approx(
        {"concurrency": 1, "prefill_tok_s": 10, "decode_tok_s": 1, "output_tok_s": 1}
    )
    assert together == pytest.approx(
        {"concurrency": 3, "prefill_tok_s": 10, "decode_tok_s": 3, "output_tok_s": 15 / 7}
    )


@pytest.mark.skipif(find_spec("llama_cpp") is not None, reason="llama.cpp is installed here")
def test_what_is_not_installed_or_has_no_model_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    (tmp_path / "b.gguf").touch()
    models = (tmp_path / "a.gguf", tmp_path / "b.gguf", tmp_path)
    pythons = {"openvino": str(tmp_path / "python"), "mistral.rs": sys.executable}
    heard: list[str] = []
    records = measure_peers(Comparison(models, pythons), _REQUEST, report=heard.append)
    found = [(record.name, record.model, record.status) for record in records]
    gone = f"failed: {tmp_path / 'python'} cannot be run: No such file or directory"
    assert found == [
        ("llama.cpp", None, "not installed"),
        ("openvino", "a.gguf", gone),
        ("openvino", "b.gguf", gone),
        ("onnxruntime", None, "not run: it reads a folder with a genai_config.json, and none was named"),
        ("mistral.rs", None, "not installed"),
        ("vllm", None, "not run: it reads a folder with config.json and safetensors, and none was named"),
    ]
    assert heard[0] == "llama.cpp on a.gguf"


def test_the_last_words_of_a_peer_that_fails_are_quoted(tmp_path: Path) -> None:
    model = tmp_path / "a.gguf"
    model.touch()
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho loading >&2\necho 'Error: no such thing' >&2\nexit 1\n")
    python.chmod(0o755)
    pythons = dict.fromkeys((peer.name for peer in PEERS), str(python))
    records = measure_peers(Comparison((model,), pythons), _REQUEST, report=print)
    assert records[0].status == "failed: Error: no such thing"
    python.write_text(
        '#!/bin/sh\necho \'{"load_s": 2, "runs": [{"concurrency": 1, "prefill_tok_s": 3,'
        ' "decode_tok_s": 4, "output_tok_s": 5}]}\'\n'
    )
    (record, *_) = measure_peers(Comparison((model,), pythons), _REQUEST, report=print)
    assert record == PeerRecord("llama.cpp", "a.gguf", "measured", 2.0, (PeerRun(1, 3.0, 4.0, 5.0),))


def test_the_table_compares_with_the_mean_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    def run(rate: float) -> RunRecord:
        times, fractions = Percentiles(1, 1, 1), FractionOfLimit(None, None)
        return RunRecord(1, 10, 5, rate, 2 * rate, 3 * rate, times, None, fractions, None)

    record = BenchRecord(
        HostRecord("a machine", 1, None, None, None, None),
        *("m", "int4", 1, 1.0, 1.0, 1),
        runs=(run(20.0),),
        runs_after=(run(40.0),),
        peers=(
            PeerRecord("llama.cpp", "a.gguf", "measured", 1.0, (PeerRun(1, 10.0, 20.0, 30.0),)),
            PeerRecord("vllm", None, "not installed"),
        ),
    )
    print_report(record, to_stderr=False)
    printed = capsys.readouterr().out
    assert "30.0" in printed
    assert "10.0 (3.00x)" in printed
    assert "vllm: not installed" in printed


@pytest.mark.parametrize("text", ["llama.cpp", "llama.cpp=", "nobody=python"])
def test_a_peer_is_a_known_name_and_a_python(text: str) -> None:
    done = CliRunner().invoke(bench, ["nowhere.ingot", "--peer", text])
    assert done.exit_code == 2
    assert "is not NAME=PYTHON with a name among llama.cpp, openvino" in done.stderr.replace("\n", " ")
