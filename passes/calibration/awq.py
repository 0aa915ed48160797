"""AWQ: inputs that matter are made smaller and their weights larger, before these are rounded.

Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration", arXiv
2306.00978.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir import QuantFormat, dequantize, quantize
from .grid import FloatArray

__all__ = ["search_scales"]

_STEPS = 10
"""Exponents that are tried, from 0 on."""

_MOST_OUTPUTS = 512
"""Rows of a weight that exponents are judged by: more change nothing but the time it takes."""


def search_scales(
    weights: Sequence[FloatArray],
    formats: Sequence[QuantFormat],
    rows: FloatArray,
    magnitude: FloatArray,
) -> FloatArray | None:
    """The scales ``[inputs]`` for the columns of ``weights`` ``[outputs, inputs]``, which share their inputs.

    They are powers of the inputs' mean ``magnitude`` ``[inputs]``, of one exponent, with which the outputs
    for ``rows`` ``[samples, inputs]`` are least wrong when weights are multiplied by them and rounded, and
    inputs divided. None where nothing is better than no scales.
    """
    base = np.maximum(magnitude, np.float32(1e-8))
    square = np.mean(rows * rows, axis=0)
    sampled = [weight[:: max(1, len(weight) // _MOST_OUTPUTS)] for weight in weights]
    wanted = [rows @ weight.T for weight in sampled]
    best, best_error = None, np.inf
    for step in range(_STEPS):
        scales = base ** np.float32(step / _STEPS)
        scales /= np.sqrt(scales.max() * scales.min())
        scaled, importance = rows / scales, square / (scales * scales)
        error = 0.0
        for weight, quant_format, exact in zip(sampled, formats, wanted, strict=True):
            rounded = dequantize(quantize(weight * scales, quant_format, importance))
            error += float(np.square(scaled @ rounded.T - exact).sum())
        if error < best_error:
            best, best_error = (scales if step else None), error
    return best
