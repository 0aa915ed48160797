"""``ingot verify``: what it finds of distributions that are known, and of compiled models."""

import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from ingot.ir.errors import IngotError, ModelError, RequestError
from ingot.runtime.commands.inspect import inspect
from ingot.runtime.commands.verify import verify
from ingot.runtime.execution.artifact import open_artifact
from ingot.runtime.verification.verification import compare, verify_artifact, windows
from ingot.targets import read_manifest
from ingot.targets.sample_text import DEFAULT_TEXT

from ...compiled import WHOLE_GROUPS, compile_tiny
from ...tiny_models import make_tiny

_TEXT = "the rain in Spain, and then the other thing. " * 4


def _constant(*probabilities: float) -> "_Scorer":
    return _Scorer(np.log(np.array(probabilities, np.float32)))


class _Scorer:
    """Gives the same distribution after every token."""

    def __init__(self, log_probs: npt.NDArray[np.float32]) -> None:
        self._log_probs = log_probs

    def __call__(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return np.tile(self._log_probs, (len(token_ids), 1))


def test_distributions_that_are_known() -> None:
    found = compare(_constant(0.5, 0.25, 0.25), _constant(0.25, 0.5, 0.25), [[0, 1, 2, 1], [1, 0]])
    divergence = 0.25 * math.log(0.5) + 0.5 * math.log(2)
    assert found.kl_mean == pytest.approx(divergence, rel=1e-5)
    assert found.kl_max == pytest.approx(divergence, rel=1e-5)
    assert found.max_abs_diff == pytest.approx(math.log(2), rel=1e-5)
    assert found.top1_agreement == 0
    assert found.num_tokens == 4
    # The tokens 1, 2, 1, 0; the first of each window is not predicted by anything.
    assert found.perplexity == pytest.approx((0.25**3 * 0.5) ** (-1 / 4), rel=1e-5)
    assert found.reference_perplexity == pytest.approx((0.5**2 * 0.25**2) ** (-1 / 4), rel=1e-5)


def test_the_largest_is_found_wherever_it_is() -> None:
    def ours(token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        scores = _constant(0.5, 0.5)(token_ids)
        scores[-2] = np.log([0.9, 0.1])
        return scores

    found = compare(ours, _constant(0.5, 0.5), [[0] * 50, [1] * 101])
    assert found.kl_max == pytest.approx(-0.5 * math.log(4 * 0.9 * 0.1), rel=1e-5)
    assert found.kl_mean == pytest.approx(found.kl_max * 2 / 149, rel=1e-5)
    assert found.max_abs_diff == pytest.approx(math.log(5), rel=1e-5)


def test_a_model_agrees_with_itself() -> None:
    found = compare(_constant(0.1, 0.9), _constant(0.1, 0.9), [[0, 1, 1]])
    assert (found.kl_mean, found.kl_max, found.max_abs_diff, found.top1_agreement) == (0, 0, 0, 1)


@given(st.integers(2, 300), st.integers(2, 40))
def test_windows_hold_every_token_once(num_tokens: int, size: int) -> None:
    token_ids = list(range(num_tokens))
    cut = windows(token_ids, size)
    assert all(2 <= len(window) <= size for window in cut)
    held = [token_id for window in cut for token_id in window]
    assert held == token_ids[: len(held)]
    assert num_tokens - len(held) <= 1  # one that would be a window of its own predicts nothing


def test_a_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(RequestError, match="at least two tokens"):
        windows([5], 10)
    with pytest.raises(RequestError, match="at least two tokens"):
        windows([5, 6, 7], 1)


def test_an_unquantized_model_is_its_reference(tmp_path_factory: pytest.TempPathFactory) -> None:
    parent = tmp_path_factory.getbasetemp()
    found = verify_artifact(compile_tiny("llama", parent), make_tiny("llama", parent), _TEXT)
    assert found.max_abs_diff < 1e-4
    assert 0 <= found.kl_max < 1e-7
    assert found.top1_agreement == 1
    assert found.perplexity == pytest.approx(found.reference_perplexity, rel=1e-5)
    assert found.reference_perplexity > 1


def test_a_quantized_model_differs_and_the_command_says_by_how_much(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    parent = tmp_path_factory.getbasetemp()
    artifact = compile_tiny("llama", parent, quant="int4", **WHOLE_GROUPS)
    reference = make_tiny("llama", parent, **WHOLE_GROUPS)
    text = tmp_path / "text.txt"
    text.write_text(_TEXT)
    arguments = [str(artifact), "--reference", str(reference), "--text", str(text)]
    done = CliRunner().invoke(verify, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert 1e-4 < found["kl_mean"] < found["kl_max"] < 20
    assert found["max_abs_diff"] > 0.01
    assert 0.05 < found["top1_agreement"] < 1
    assert found["perplexity"] != found["reference_perplexity"]
    table = CliRunner().invoke(verify, arguments)
    assert table.exit_code == 0
    assert f"{found['perplexity']:.4f}" in table.stdout


def test_what_was_found_can_be_kept_in_the_artifact(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    parent = tmp_path_factory.getbasetemp()
    artifact = Path(shutil.copytree(compile_tiny("llama", parent), tmp_path / "copy.ingot"))
    assert read_manifest(artifact).accuracy is None
    arguments = [str(artifact), "--reference", str(make_tiny("llama", parent)), "--record", "--json"]
    done = CliRunner().invoke(verify, arguments)
    assert done.exit_code == 0, done.output
    kept = read_manifest(artifact).accuracy
    assert kept is not None
    assert json.loads(done.stdout) == msgspec.to_builtins(kept)
    open_artifact(artifact).check()
    assert "accuracy" in CliRunner().invoke(inspect, [str(artifact)]).stdout


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"vocab_size": 311}, "its vocab_size is 311, not 307"),
        ({"num_hidden_layers": 3}, "its num_hidden_layers is 3, not 4"),
    ],
)
def test_a_reference_of_another_shape_is_refused(
    other: dict[str, int], said: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parent = tmp_path_factory.getbasetemp()
    with pytest.raises(ModelError, match=said):
        verify_artifact(compile_tiny("llama", parent), make_tiny("llama", parent, **other), _TEXT)


def test_a_reference_of_another_family_or_tokenizer_is_refused(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    parent = tmp_path_factory.getbasetemp()
    artifact = compile_tiny("llama", parent)
    with pytest.raises(ModelError, match="its model_type is qwen2, not llama"):
        verify_artifact(artifact, make_tiny("qwen2", parent), _TEXT)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((make_tiny("llama", parent) / name).read_text())
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    ids = tokenizer["model"]["vocab"]
    ids["e"], ids["o"] = ids["o"], ids["e"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="cuts the text differently"):
        verify_artifact(artifact, tmp_path, _TEXT)


def test_a_folder_without_a_model_is_refused(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    parent = tmp_path_factory.getbasetemp()
    artifact = compile_tiny("llama", parent)
    with pytest.raises(ModelError, match=r"no Hugging Face folder: its config\.json cannot be read"):
        verify_artifact(artifact, tmp_path, _TEXT)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        verify_artifact(artifact, tmp_path, _TEXT)
    (tmp_path / "config.json").write_text((make_tiny("llama", parent) / "config.json").read_text())
    with pytest.raises(ModelError, match="transformers cannot load"):
        verify_artifact(artifact, tmp_path, _TEXT)


def test_without_torch_the_command_says_what_to_install(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tmp_path_factory.getbasetemp()
    artifact, reference = compile_tiny("llama", parent), make_tiny("llama", parent)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(IngotError, match=r"pip install '\.\[reference\]'"):
        verify_artifact(artifact, reference, _TEXT)


def test_a_text_that_is_none_is_refused(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    text = tmp_path / "noise.bin"
    text.write_bytes(b"abc\xff\xfe")
    artifact = compile_tiny("llama", tmp_path_factory.getbasetemp())
    done = CliRunner().invoke(verify, [str(artifact), "--reference", "x", "--text", str(text)])
    assert done.exit_code == 1
    assert "noise.bin is not UTF-8 text: invalid start byte at byte 3" in done.stderr


def test_the_text_that_comes_along_is_of_several_kinds() -> None:
    assert 2000 < len(DEFAULT_TEXT) < 10_000
    for kind in ("lighthouse", "User:", "| planet", "def merge", '{"name"', "Wellen"):
        assert kind in DEFAULT_TEXT
