"""Calibrating while compiling: the text's tokens, and the weights that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ..frontend import Model, WeightSource
from ..ir import Array
from ..ir.errors import CompileError
from ..passes import PipelineOptions, calibrated_name, fusing_passes, run_passes
from ..passes.calibration import METHODS, WorkFolder, calibrate
from .progress import CompileProgress
from .quantize_options import QuantizeOptions

__all__ = ["CalibratedWeights", "calibrate_model", "read_windows"]

_WINDOW_TOKENS = 512
"""Tokens of a sequence that layers are calibrated on, where the context is not shorter."""

Tokens = npt.NDArray[np.int32]


class CalibratedWeights:
    """A checkpoint's tensors, and those that a calibration found."""

    def __init__(self, weights: WeightSource, work: WorkFolder) -> None:
        self._weights, self._work = weights, work
        self._parameters = {calibrated_name(name, type_): name for name, type_ in work.types.items()}
        self.names: Sequence[str] = (*weights.names, *self._parameters)

    def read(self, name: str) -> Array:
        """A tensor's values."""
        if name in self._parameters:
            return self._work.read(self._parameters[name])
        return self._weights.read(name)


def calibrate_model(
    model: Model,
    options: QuantizeOptions,
    pipeline: PipelineOptions,
    *,
    tokenizer: Path,
    folder: Path,
    progress: CompileProgress,
) -> WorkFolder:
    """Calibrate ``model`` as ``options`` say; what is found is kept in ``folder``.

    ``tokenizer`` is the folder of tokenizer.json, ``pipeline`` what the passes are to do.
    """
    assert options.assignment is not None
    sequences: list[Tokens] = []
    if METHODS[options.method].reads_text:
        if options.calibrate is None:
            raise CompileError(f"{options.method} needs a text to calibrate on")
        sequences = read_windows(
            options.calibrate,
            tokenizer,
            window_tokens=min(_WINDOW_TOKENS, pipeline.max_seq_len),
            most_tokens=options.calibration_tokens,
        )
    fused = run_passes(model.module, fusing_passes(pipeline)).module
    title = f"Calibrating ({options.method})"
    return calibrate(
        fused,
        model.weights.read,
        assignment=options.assignment,
        method=options.method,
        sequences=sequences,
        folder=folder,
        begin=lambda count: progress.stage(title, count),
        advance=progress.advance,
    )


def read_windows(text_file: Path, tokenizer: Path, *, window_tokens: int, most_tokens: int) -> list[Tokens]:
    """A text's tokens in windows of equal length, from all over it where it has more than are wanted.

    Raises :class:`CompileError` where the file cannot be read or has less than two tokens.
    """
    try:
        text = text_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CompileError(f"the text {text_file} cannot be read: {error}") from None
    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    encoder.no_truncation()
    encoder.no_padding()
    token_ids = np.array(encoder.encode(text).ids, np.int32)
    if len(token_ids) < 2:
        raise CompileError(f"the text {text_file} has {len(token_ids)} tokens; at least two are needed")
    window = min(window_tokens, len(token_ids))
    windows = [token_ids[start : start + window] for start in range(0, len(token_ids) - window + 1, window)]
    wanted = max(1, most_tokens // window)
    if len(windows) <= wanted:
        return windows
    return [windows[index * len(windows) // wanted] for index in range(wanted)]
