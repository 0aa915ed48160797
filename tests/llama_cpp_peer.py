"""llama.cpp through its Python package, in a process of its own: it may live in another environment.

``INGOT_LLAMA_CPP`` names the Python that has ``llama_cpp``; this one, unless it says otherwise. That Python
runs this file, so nothing of ingot is imported here::

    python tests/llama_cpp_peer.py quantize SOURCE.gguf TARGET.gguf Q4_K_M
    python tests/llama_cpp_peer.py score MODEL.gguf WINDOWS SCORES

Windows and scores are folders of ``N.tokens.npy`` and ``N.log_probs.npy``, as ingot records them.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

__all__ = ["is_installed", "quantize", "score"]

_THREADS = 2
_PYTHON = os.environ.get("INGOT_LLAMA_CPP", sys.executable)


def is_installed() -> bool:
    """Whether there is a llama.cpp to compare with."""
    found = subprocess.run([_PYTHON, "-c", "import llama_cpp"], capture_output=True, check=False)
    return found.returncode == 0


def quantize(source: Path, target: Path, kind: str) -> Path:
    """Have llama.cpp quantize a file to one of its mixtures, such as ``Q4_K_M``; returns ``target``."""
    _run("quantize", source, target, kind)
    return target


def score(model: Path, windows: Path, scores: Path) -> Path:
    """Have llama.cpp record its log-probabilities after each token of the windows; returns ``scores``."""
    _run("score", model, windows, scores)
    return scores


def _run(*arguments: str | Path) -> None:
    done = subprocess.run(
        [_PYTHON, __file__, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"llama.cpp could not {arguments[0]}:\n{done.stderr[-2000:]}")


def _quantize_here(source: str, target: str, kind: str) -> None:
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.nthread = _THREADS
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)):
        sys.exit(f"quantizing to {kind} failed")


def _score_here(model: str, windows: Path, scores: Path) -> None:
    import llama_cpp

    tokens = [np.load(windows / f"{n}.tokens.npy") for n in range(len(list(windows.glob("*.tokens.npy"))))]
    longest = max(map(len, tokens))
    llama = llama_cpp.Llama(
        model, n_ctx=longest, n_batch=longest, logits_all=True, n_threads=_THREADS, verbose=False
    )
    scores.mkdir(parents=True)
    for number, window in enumerate(tokens):
        llama.reset()
        llama.eval(window.tolist())
        logits = np.array(llama.scores[: len(window)], np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        np.save(scores / f"{number}.tokens.npy", window)
        np.save(scores / f"{number}.log_probs.npy", log_probs.astype(np.float32))


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    if command == "quantize":
        _quantize_here(*words)
    else:
        _score_here(words[0], Path(words[1]), Path(words[2]))
