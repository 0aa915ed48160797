"""Tokens for the rows of a step's output: from the device where that chooses, from the logits where not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..scheduling.choosing import TokenWish
from ..scheduling.step import StepOutput
from .sampler import Sampled, SamplingFailure, SamplingState, sample

__all__ = ["choose", "wish_of"]

_MASK = 2**64 - 1


def choose(
    output: StepOutput, rows: Sequence[int], states: Sequence[SamplingState]
) -> list[Sampled | SamplingFailure]:
    """Choose a token for each of ``rows`` of the logits, which are of these ``states``; see :func:`.sample`.

    Only the rows that the device leaves to the host are read from it.
    """
    if output.chooser is None:
        return sample(output.rows(rows), states)
    chosen: dict[int, Sampled | SamplingFailure] = {}
    places, wishes = [], []
    for place, (row, state) in enumerate(zip(rows, states, strict=True)):
        wish = wish_of(row, state)
        if wish is not None:
            places.append(place)
            wishes.append(wish)
    if wishes:
        for place, token_id in zip(places, output.chooser.choose(wishes), strict=True):
            if token_id is not None:
                chosen[place] = Sampled(token_id)
    left = [place for place in range(len(rows)) if place not in chosen]
    if left:
        sampled = sample(output.rows([rows[place] for place in left]), [states[place] for place in left])
        chosen.update(zip(left, sampled, strict=True))
    return [chosen[place] for place in range(len(rows))]


def wish_of(row: int, state: SamplingState) -> TokenWish | None:
    """What ``state`` asks of a row, in numbers; ``None`` where there is more to it: logits are edited by
    Python, or log-probabilities are reported.
    """
    params, suppressed = state.params, state.suppressed
    if params.logprobs is not None or params.logits_processors:
        return None
    if suppressed.size and state.allowed_tokens is not None:
        return None  # which of the two goes, the host finds out from what is left
    return TokenWish(
        row=row,
        is_greedy=params.is_greedy,
        temperature=1.0 if params.is_greedy else params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        seed=state.seed & _MASK,
        place=state.num_generated,
        allowed=state.allowed_tokens,
        counted=state.counted,
        penalties=(params.repetition_penalty, params.frequency_penalty, params.presence_penalty),
        added=state.repeated,
        biased=state.biased,
        suppressed=suppressed.astype(np.int64),
    )
