"""``--quant auto``: formats chosen for a model, weight by weight, for a size or an accuracy."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..frontend import Model
from ..ir import Module, TensorType, find_format
from ..ir.errors import CompileError
from ..passes import PipelineOptions, Topology, fusing_passes, parse_topology, print_topology, run_passes
from ..passes.calibration import Choice, Sensitivity, Tokens, allocate, divergence_with, measure_sensitivities
from ..targets.sample_text import DEFAULT_TEXT
from ..targets.sizes import format_size
from .calibrating import read_windows
from .progress import CompileProgress
from .quantize_options import Budget

__all__ = ["CANDIDATES", "choose_formats"]

CANDIDATES = ("int2_g32_i5", "int3_g32_i5", "int4_g32_i5", "int5_g32", "int6_g32", "int8_g32")
"""What there is to choose from, besides leaving a weight as it is."""

_TOKENS, _WINDOW_TOKENS = 256, 128
"""How much of the text is read: what is measured takes about half a run over it for each weight."""

_MOST_ROUNDS = 4
_CLOSE_ENOUGH = 0.9


def choose_formats(
    model: Model,
    pipeline: PipelineOptions,
    budget: Budget,
    *,
    text: Path | None,
    tokenizer: Path,
    progress: CompileProgress,
) -> tuple[Topology, str]:
    """The topology that keeps ``budget``, and its text; ``text`` None is a few paragraphs of several kinds.

    Raises :class:`CompileError` where no choice keeps it.
    """
    module = run_passes(model.module, fusing_passes(pipeline)).module
    sequences = _read(text, tokenizer, pipeline.max_seq_len)
    found = measure_sensitivities(
        module,
        model.weights.read,
        CANDIDATES,
        sequences,
        begin=lambda count: progress.stage("Measuring sensitivity", count),
        advance=progress.advance,
    )
    chosen = _choose(module, model, found, budget, sequences)
    printed = print_topology(chosen)
    return parse_topology(printed, "that was chosen"), printed


def _read(text: Path | None, tokenizer: Path, longest: int) -> list[Tokens]:
    window = min(_WINDOW_TOKENS, longest)
    if text is not None:
        return read_windows(text, tokenizer, window_tokens=window, most_tokens=_TOKENS)
    with tempfile.TemporaryDirectory(prefix="ingot-text-") as name:
        sample = Path(name) / "sample.txt"
        sample.write_text(DEFAULT_TEXT, encoding="utf-8")
        return read_windows(sample, tokenizer, window_tokens=window, most_tokens=_TOKENS)


def _choose(
    module: Module,
    model: Model,
    found: Sequence[Sensitivity],
    budget: Budget,
    sequences: Sequence[Tokens],
) -> dict[str, str | None]:
    types = {value.name: value.type for value in module.forward.parameters}
    choices = [_choices(each, types[each.weight]) for each in found]
    chosen_for = {each.weight for each in found}
    others = sum(
        _num_bytes(value.type) for value in module.forward.parameters if value.name not in chosen_for
    )

    smallest = others + sum(min(choice.num_bytes for choice in each) for each in choices)
    if budget.max_bytes is not None and smallest > budget.max_bytes:
        raise CompileError(
            f"the weights take {format_size(smallest)} in the smallest formats there are to choose from, "
            f"and shall take {format_size(budget.max_bytes)}"
        )

    def solve(max_loss: float | None) -> dict[str, str | None]:
        max_bytes = None if budget.max_bytes is None else budget.max_bytes - others
        picked = allocate(choices, max_bytes=max_bytes, max_loss=max_loss)
        return {each.weight: choice.format for each, choice in zip(found, picked, strict=True)}

    if budget.max_divergence is None:
        return solve(None)
    # What single weights cost adds up only about: measured together, the bound is moved until it is kept.
    bound, best = budget.max_divergence, None
    for _ in range(_MOST_ROUNDS):
        formats = solve(bound)
        measured = divergence_with(module, model.weights.read, formats, sequences)
        if measured <= budget.max_divergence:
            best = formats
            if measured >= _CLOSE_ENOUGH * budget.max_divergence:
                break
        if measured <= 0:
            break
        bound *= 0.97 * budget.max_divergence / measured
    if best is None:
        raise CompileError(f"no choice of formats was found that costs {budget.max_divergence} nats or less")
    return best


def _choices(sensitivity: Sensitivity, type_: TensorType) -> list[Choice]:
    """A weight's formats, and to leave it as it is."""
    rounded = [
        Choice(name, _num_bytes(type_.with_element(find_format(name))), loss)
        for name, loss in sensitivity.losses.items()
    ]
    return [*rounded, Choice(None, _num_bytes(type_), 0.0)]


def _num_bytes(type_: TensorType) -> int:
    """What a parameter takes in an artifact."""
    from .kernels.layout import Layout, components

    layout = Layout.BLOCKED if type_.rank > 1 else Layout.ROWS
    return sum(math.prod(part.shape) * np.dtype(part.dtype).itemsize for part in components(type_, layout))
