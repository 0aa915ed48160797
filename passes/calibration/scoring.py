"""What a model as it is, unquantized, makes of a text, one layer held at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ...ir import Array, Module
from .grid import FloatArray
from .layers import Layer, Reader, Tokens, read_parameters, run_layer

__all__ = ["log_softmax", "score"]


def score(
    module: Module,
    layers: Sequence[Layer],
    read: Reader,
    sequences: Sequence[Tokens],
    advance: Callable[[], None] = lambda: None,
) -> Iterator[FloatArray]:
    """Log-probabilities float32 ``[tokens, vocabulary]`` after each token of each sequence, one by one.

    ``layers`` are those ``module`` was cut into; ``advance`` is told that one is done.
    """
    kept: list[Mapping[str, Array]] = [{} for _ in sequences]
    *others, last = layers
    for layer in others:
        parameters = read_parameters(module, (value.name for value in layer.graph.parameters), read)
        for index, sequence in enumerate(sequences):
            kept[index] = run_layer(layer, parameters, kept[index], sequence)
        advance()
    parameters = read_parameters(module, (value.name for value in last.graph.parameters), read)
    output = module.forward.outputs[0].name
    for index, sequence in enumerate(sequences):
        logits = run_layer(last, parameters, kept[index], sequence)[output]
        yield log_softmax(np.asarray(logits, np.float32))
    advance()


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
