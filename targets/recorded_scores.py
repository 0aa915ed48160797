"""Log-probabilities that a model gave to a text, on disk: what an artifact can be compared with.

A folder holds, for each window of the text, ``N.tokens.npy``, int32 ``[tokens]``, and ``N.log_probs.npy``,
float32 ``[tokens, vocabulary]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["RecordedScores", "write_scores"]


def write_scores(
    folder: Path, windows: Sequence[npt.NDArray[np.int32]], log_probs: Iterable[npt.NDArray[np.float32]]
) -> None:
    """Write the log-probabilities after each token of each window; one window's are held at a time."""
    folder.mkdir(parents=True)
    for number, (window, scores) in enumerate(zip(windows, log_probs, strict=True)):
        np.save(folder / f"{number}.tokens.npy", window)
        np.save(folder / f"{number}.log_probs.npy", scores)


class RecordedScores:
    """Scores that :func:`write_scores` wrote."""

    def __init__(self, folder: Path) -> None:
        count = len(list(folder.glob("*.tokens.npy")))
        self._folder = folder
        self.windows: list[list[int]] = [
            np.load(folder / f"{number}.tokens.npy").tolist() for number in range(count)
        ]
        self._numbers = {tuple(window): number for number, window in enumerate(self.windows)}

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """The log-probabilities float32 ``[tokens, vocabulary]`` of one of the windows."""
        number = self._numbers[tuple(token_ids)]
        scores: npt.NDArray[np.float32] = np.load(self._folder / f"{number}.log_probs.npy", mmap_mode="r")
        return scores
