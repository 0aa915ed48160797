"""How far a compiled model is from the one it was made of, measured on a text.

The reference is the model as ``transformers`` runs it in float32. Both read the same tokens (teacher
forcing), so that one early difference does not make all that follows incomparable, and their distributions
over the next token are compared at every position that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ...ir.errors import ModelError, RequestError
from ...targets import Manifest, read_manifest
from ..engine.engine import Engine
from ..execution.model_info import ModelInfo
from ..text.tokenizer import Tokenizer
from .reference_model import ReferenceModel, expect_reference

__all__ = ["Accuracy", "Scorer", "compare", "kv_memory_for", "verify_artifact", "windows"]

_WINDOW_TOKENS = 512
"""Tokens of a window, where the context is not shorter; nothing before a window is seen in it."""

Scorer: TypeAlias = Callable[[Sequence[int]], npt.NDArray[np.float32]]
"""Scores a window: float32 ``[len(token_ids), vocab_size]``, the log-probabilities after each token."""

_BLOCK_ROWS = 32
"""Positions compared at a time: a whole window of a large vocabulary would be gigabytes in float64."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What was found; the names are those of ``ingot verify --json``.

    Attributes:
        kl_mean: Kullback-Leibler divergence of our next-token distribution from the reference's, in nats,
            mean over positions.
        kl_max: the largest of these.
        max_abs_diff: the largest difference of two log-probabilities.
        top1_agreement: the share of positions where both have the same likeliest token.
        perplexity: ours of the text, over all tokens but the first of each window.
        reference_perplexity: the reference's.
        num_tokens: positions compared at: all but the last of each window.
    """

    kl_mean: float
    kl_max: float
    max_abs_diff: float
    top1_agreement: float
    perplexity: float
    reference_perplexity: float
    num_tokens: int


def verify_artifact(
    artifact: Path, reference: Path, text: str, *, report: Callable[[str], None] = lambda _: None
) -> Accuracy:
    """Compare an artifact with the Hugging Face folder that it, or another form of it, was made of.

    ``report`` hears what is being done.

    Raises:
        ArtifactError: the artifact cannot be used.
        ModelError: the reference is not the same model, or cannot be loaded.
        IngotError: PyTorch or transformers are not installed.
        RequestError: the text has less than two tokens, or the model generates none.
    """
    manifest = read_manifest(artifact)
    model = manifest.model
    if model.task != "generate":
        info = ModelInfo(model.name, model.max_seq_len, frozenset(), task=model.task)
        raise info.refuse("generate")
    num_tokens = min(model.max_seq_len, _WINDOW_TOKENS)
    # The engine first: it brings in TVM without torch, and a folder that is no reference costs no waiting.
    expect_reference(reference, model)
    report("loading the artifact")
    with Engine(artifact, max_num_seqs=1, kv_memory=kv_memory_for(manifest, num_tokens)) as engine:
        cut = windows(_encode(engine.tokenizer, reference, text), num_tokens)
        report("loading the reference")
        return compare(engine.score, ReferenceModel(reference).score, cut, report=report)


def kv_memory_for(manifest: Manifest, num_tokens: int) -> int:
    """Bytes of a cache for one sequence of ``num_tokens``."""
    memory = manifest.memory
    num_pages = -(-num_tokens // memory.page_size) + 1
    return num_pages * memory.page_size * memory.kv_bytes_per_token


def windows(token_ids: Sequence[int], num_tokens: int) -> list[Sequence[int]]:
    """Cut token ids into windows of at most ``num_tokens`` and at least two.

    Raises :class:`RequestError` where there are less than two tokens, or room for less.
    """
    if len(token_ids) < 2 or num_tokens < 2:
        raise RequestError("comparing takes a text of at least two tokens, and a context of as many", "text")
    cut = [token_ids[start : start + num_tokens] for start in range(0, len(token_ids), num_tokens)]
    return cut if len(cut[-1]) > 1 else cut[:-1]


def compare(
    ours: Scorer,
    reference: Scorer,
    cut: Sequence[Sequence[int]],
    *,
    report: Callable[[str], None] = lambda _: None,
) -> Accuracy:
    """Score each window with both and compare them wherever the window has a next token."""
    divergences: list[npt.NDArray[np.float64]] = []
    largest, num_agreeing = 0.0, 0
    log_likelihoods = np.zeros(2)
    for number, window in enumerate(cut, start=1):
        report(f"comparing window {number} of {len(cut)}")
        for targets, q, p in _blocks(window, ours(window), reference(window)):
            rows = np.arange(len(targets))
            divergences.append(np.sum(np.exp(p) * (p - q), axis=1))
            largest = max(largest, float(np.abs(p - q).max()))
            num_agreeing += int(np.count_nonzero(p.argmax(axis=1) == q.argmax(axis=1)))
            log_likelihoods += (q[rows, targets].sum(), p[rows, targets].sum())
    kl = np.concatenate(divergences)
    perplexity, reference_perplexity = np.exp(-log_likelihoods / len(kl)).tolist()
    return Accuracy(
        kl_mean=float(kl.mean()),
        kl_max=float(kl.max()),
        max_abs_diff=largest,
        top1_agreement=num_agreeing / len(kl),
        perplexity=perplexity,
        reference_perplexity=reference_perplexity,
        num_tokens=len(kl),
    )


def _blocks(
    window: Sequence[int], ours: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """The next tokens, our log-probabilities and the reference's, some positions at a time."""
    targets = np.array(window[1:], np.int64)
    for start in range(0, len(targets), _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, len(targets)))
        yield targets[rows], _normalized(ours[rows]), _normalized(reference[rows])


def _normalized(log_probs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Log-probabilities whose probabilities sum to one in float64, lest divergences come out negative."""
    wide = log_probs.astype(np.float64)
    normalized: npt.NDArray[np.float64] = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return normalized


def _encode(tokenizer: Tokenizer, reference: Path, text: str) -> list[int]:
    """The text's tokens; raises :class:`ModelError` where the reference's tokenizer gives others."""
    token_ids = tokenizer.encode(text)
    if (reference / "tokenizer.json").is_file() and Tokenizer.load(reference).encode(text) != token_ids:
        raise ModelError(f"the tokenizer of {reference} cuts the text differently: it is of another model")
    return token_ids
