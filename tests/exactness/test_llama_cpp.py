"""Files that llama.cpp made, run by llama.cpp and by ingot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf")

from ingot.codegen import compile_model
from ingot.runtime.verification.judging import judge_apart

from .. import llama_cpp_peer
from ..gguf_files import write_gguf

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not llama_cpp_peer.is_installed(), reason="needs llama_cpp, see llama_cpp_peer.py"),
]

TINYCHAT = Path(__file__).parents[2] / "examples" / "tinychat" / "model"
WINDOW = 200


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tinychat as a file, and a text of its own making in windows."""
    from tokenizers import Tokenizer

    work = tmp_path_factory.mktemp("llama_cpp")
    write_gguf(TINYCHAT, work / "plain.gguf", choose=lambda name, shape: "BF16")
    text = " ".join(path.read_text() for path in sorted((TINYCHAT.parent).glob("*.md")))
    token_ids = Tokenizer.from_file(str(TINYCHAT / "tokenizer.json")).encode(text).ids[: 3 * WINDOW]
    (work / "windows").mkdir()
    for number, start in enumerate(range(0, len(token_ids) - WINDOW, WINDOW)):
        window = np.array(token_ids[start : start + WINDOW], np.int32)
        np.save(work / "windows" / f"{number}.tokens.npy", window)
    return work


@pytest.mark.parametrize(
    ("kind", "kl_mean"),
    # Both round activations to 8 bits where weights are codes, each in its own way.
    [("BF16", 1e-4), ("Q8_0", 0.01), ("Q6_K", 0.01), ("Q4_K_M", 0.02), ("IQ4_XS", 0.02), ("Q2_K", 0.05)],
)
def test_log_probabilities_follow_llama_cpp(work: Path, kind: str, kl_mean: float) -> None:
    path = work / "plain.gguf"
    if kind != "BF16":
        path = llama_cpp_peer.quantize(path, work / f"{kind}.gguf", kind)
    scores = llama_cpp_peer.score(path, work / "windows", work / f"scores-{kind}")
    artifact = compile_model(path, work / f"{kind}.ingot")
    assert judge_apart(artifact.path, scores).kl_mean <= kl_mean
