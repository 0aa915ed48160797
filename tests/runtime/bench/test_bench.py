"""``ingot bench`` from end to end, on a tiny model."""

import functools
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from ingot.ir.errors import IngotError, RequestError
from ingot.runtime.bench import BenchOptions, run_benchmark
from ingot.runtime.bench.first_token import measure_first_token
from ingot.runtime.bench.host_limits import measure_host
from ingot.runtime.bench.load_generator import random_prompts
from ingot.runtime.commands.bench import bench

from ...compiled import WHOLE_GROUPS, compile_tiny


@pytest.fixture(autouse=True)
def _measure_limits_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    brief = functools.partial(measure_host, seconds=0.05, read_bytes=1 << 26)
    monkeypatch.setattr("ingot.runtime.bench.benchmark.measure_host", brief)


@pytest.fixture
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_tiny("llama", tmp_path_factory.getbasetemp(), quant="int4", **WHOLE_GROUPS)


def test_the_document_holds_what_is_promised(artifact: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    arguments = ["--prompt-tokens", "24", "--output-tokens", "12", "--concurrency", "1,3", "--rounds", "2"]
    done = CliRunner().invoke(bench, [str(artifact), *arguments, "--json", str(file)])
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    assert "decode tok/s" in done.stderr
    assert "step: executing" in done.stderr
    document = json.loads(file.read_text())
    assert {"cpu", "threads", "read_gb_s", "int8_tops", "bf16_tflops"} <= document["host"].keys()
    assert (document["model"], document["quant"]) == (artifact.name.rsplit("-", 1)[0], "int4")
    assert document["weight_bytes"] == (artifact / "params" / "weights.bin").stat().st_size
    assert 0 < document["load_s"] < 60
    assert 0 < document["first_token_s"] < 60
    assert document["peak_memory_bytes"] > document["weight_bytes"]
    assert [run["concurrency"] for run in document["runs"]] == [1, 3]
    for run in document["runs"]:
        assert (run["prompt_tokens"], run["output_tokens"]) == (24, 12)
        # All tokens of all answers take at least as long as the steps that only decode.
        assert 0 < run["output_tok_s"] < run["decode_tok_s"] * 2
        assert run["prefill_tok_s"] > 0
        for times in (run["ttft_ms"], run["itl_ms"]):
            assert 0 < times["p50"] <= times["p90"] <= times["p99"]
        # A model that fits the caches may outrun memory, but not by much where steps are mostly overhead.
        assert 0 < run["fraction_of_limit"]["decode"] < 2
        assert 0 < run["fraction_of_limit"]["prefill"] < 1
        shares = run["step_share"]
        assert shares.keys() == {"schedule", "execute", "sample", "grammar", "emit"}
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares["execute"], shares["sample"], shares["emit"]) > 0


def test_a_document_on_stdout_is_alone_there(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.runtime.bench.benchmark.measure_first_token", lambda folder, device: 1.5)
    arguments = ["--prompt-tokens", "5", "--output-tokens", "1", "--concurrency", "2", "--rounds", "1"]
    done = CliRunner().invoke(bench, [str(artifact), *arguments, "--profile", "--json", "-"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [(step["phase"], step["sequences"]) for step in document["profile"]] == [
        ("prefill", 1),
        ("decode", 2),
    ]
    assert "prefill of 5 tokens" in done.stderr
    assert "products by matrices" in done.stderr
    assert document["first_token_s"] == 1.5
    (run,) = document["runs"]
    assert run["decode_tok_s"] is None
    assert run["itl_ms"] is None
    assert run["fraction_of_limit"]["decode"] is None


def test_requests_that_do_not_fit_the_model_are_refused_before_loading(artifact: Path) -> None:
    with pytest.raises(
        RequestError, match=r"prompts of 100 and answers of 29 tokens do not fit .* 128 tokens"
    ):
        run_benchmark(artifact, BenchOptions(prompt_tokens=100, output_tokens=29))
    with pytest.raises(RequestError, match="prompts of 1 and answers of 128 tokens do not fit"):
        run_benchmark(artifact, BenchOptions(output_tokens=128))


@pytest.mark.parametrize("text", ["", "1,", "0", "two", "1,-3"])
def test_concurrency_is_a_list_of_counts(text: str) -> None:
    done = CliRunner().invoke(bench, ["nowhere.ingot", "--concurrency", text])
    assert done.exit_code == 2
    assert f"'{text}' is not a list of counts such as 1,8,16" in done.stderr


def test_a_model_that_is_none_fails_with_a_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(bench, [str(tmp_path / "nowhere.ingot")])
    assert done.exit_code == 1
    assert "nowhere.ingot" in done.stderr


def test_a_process_that_does_not_answer_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=r"'ingot run' on .*broken did not answer: .*broken"):
        measure_first_token(tmp_path / "broken", repetitions=1)


def test_prompts_are_random_but_fixed() -> None:
    prompts = random_prompts(3, 50, 307, seed=(1, 2))
    assert prompts == random_prompts(3, 50, 307, seed=(1, 2))
    assert len(set(prompts) | set(random_prompts(3, 50, 307, seed=(1, 3)))) == 6
    assert len({prompt[:8] for prompt in prompts}) == 3
    assert all(0 <= token_id < 307 for prompt in prompts for token_id in prompt)
