"""Whole sequences as the arrays that a model which gives vectors takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..scheduling.vectors import VectorInput

__all__ = ["describe_inputs"]


def describe_inputs(inputs: Sequence[VectorInput]) -> Mapping[str, npt.NDArray[np.int32]]:
    """The inputs of a ragged module (see :mod:`ingot.ir.operators.embedding`) by name, all int32.

    ``token_ids``, ``positions`` and ``token_types`` ``[tokens]``, ``sequence_starts`` ``[sequences + 1]``,
    ``context_lengths`` ``[sequences]``.
    """
    lengths = np.array([len(one.token_ids) for one in inputs], np.int32)
    types = [one.token_types or (0,) * len(one.token_ids) for one in inputs]
    return {
        "token_ids": np.concatenate([np.array(one.token_ids, np.int32) for one in inputs]),
        "positions": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        "token_types": np.concatenate([np.array(one, np.int32) for one in types]),
        "sequence_starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        "context_lengths": lengths,
    }
