"""The module in an artifact, and its logits by the interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ingot.ir import Array, Module, evaluate, filled, page_size_of, parse_module
from ingot.runtime.execution.batch import describe_batch

from .stepping import Logits, steps_of

__all__ = ["interpret", "paged_module"]

_NUM_PAGES = 20


def paged_module(artifact: Path) -> Module:
    """The step that an artifact's kernels compute."""
    return parse_module((artifact / "ir" / "paged.ir").read_text())


def interpret(
    module: Module,
    parameters: Mapping[str, Array],
    sequences: Sequence[Sequence[int]],
    steps: Sequence[Mapping[int, int]],
) -> list[Logits]:
    """Logits ``[tokens, vocab]`` of each sequence, in ``steps`` as :func:`.stepping.in_steps` takes them."""
    page_size = page_size_of(module.forward)
    states = [filled(state.type, {"pages": _NUM_PAGES}, 0.0) for state in module.forward.states]
    rows: list[list[Logits]] = [[] for _ in sequences]
    for step in steps_of(sequences, steps, page_size=page_size, num_pages=_NUM_PAGES):
        by_name = dict(zip((state.name for state in module.forward.states), states, strict=True))
        batch = describe_batch(step, page_size)
        logits, *states = evaluate(module.forward, {**parameters, **batch, **by_name})
        bounds = np.cumsum([chunk.num_logit_rows for chunk in step.chunks])[:-1]
        for chunk, part in zip(step.chunks, np.split(np.asarray(logits), bounds), strict=True):
            rows[chunk.sequence_id].append(part)
    return [np.concatenate(parts) for parts in rows]
