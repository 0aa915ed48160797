"""GPTQ: columns rounded one after the other, each one's error made good by those that follow.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
arXiv 2210.17323.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...ir import QuantFormat, QuantizedArray, quantize
from .grid import FloatArray, Grid

__all__ = ["gptq", "inverse_factor"]

_DAMPING = 0.01
"""Of the mean of the Gram matrix's diagonal, added to it: the paper's."""

_BLOCK = 128
"""Columns whose errors reach those behind them at once."""

_WIDEST_IN_FLOAT64 = 4096


def gptq(
    weight: FloatArray,
    gram: FloatArray,
    quant_format: QuantFormat,
    factor: npt.NDArray[np.floating[Any]] | None = None,
) -> QuantizedArray:
    """``weight`` ``[outputs, inputs]`` in ``quant_format``, with little error of the outputs.

    ``gram`` ``[inputs, inputs]`` is the sum, or mean, of the products of the inputs with each other,
    ``x.T @ x``. Scales are found when a block of the format is reached, for the weights as they have become
    by then, with the diagonal of ``gram`` as importance; what they are whole multiples of is a row's from the
    beginning. ``factor`` is ``gram``'s :func:`inverse_factor`,
    which weights that meet the same inputs share.
    """
    outputs, inputs = weight.shape
    left = weight.astype(np.float32, copy=True)
    dead = np.diag(gram) == 0
    left[:, dead] = 0
    factor = (inverse_factor(gram) if factor is None else factor).astype(np.float32)
    importance = np.maximum(np.diag(gram), np.float32(1e-12)).astype(np.float32)
    span, row_scales = quant_format.scale.largest_size or inputs, None
    if quant_format.has_whole_scales:
        span = quant_format.block_size
        row_scales = quantize(left, quant_format, importance).super_scales
    found: list[QuantizedArray] = []
    for start, stop in _blocks(inputs, span):
        errors = np.zeros((outputs, stop - start), np.float32)
        for column in range(start, stop):
            within = column % span
            if within == 0:
                columns = slice(column, column + span)
                scaled = quantize(left[:, columns], quant_format, importance[columns], row_scales)
                grid, codes = Grid(scaled), np.empty_like(scaled.codes)
                found.append(replace(scaled, codes=codes))
            codes[:, within], values = grid.round(left[:, column], within)
            error = (left[:, column] - values) / factor[column, column]
            left[:, column:stop] -= error[:, None] * factor[column, column:stop]
            errors[:, column - start] = error
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return _joined(found)


def _blocks(inputs: int, span: int) -> Iterator[tuple[int, int]]:
    """Columns from where to where go together: whole spans, or parts of one."""
    size = span * (_BLOCK // span) if span <= _BLOCK else _BLOCK
    for first in range(0, inputs, max(size, span)):
        end = min(first + max(size, span), inputs)
        for start in range(first, end, size):
            yield start, min(start + size, end)


def _joined(parts: list[QuantizedArray]) -> QuantizedArray:
    """Neighbouring columns as one tensor; a row's one number is of the first."""
    (first, *_) = parts
    sizes = {component.name: component.size for component in first.format.components}
    arrays: dict[str, npt.NDArray[Any]] = {
        name: array
        if sizes[name] is None
        else np.concatenate([part.components[name] for part in parts], axis=1)
        for name, array in first.components.items()
    }
    return QuantizedArray(first.format, **arrays)


def inverse_factor(gram: FloatArray) -> npt.NDArray[np.floating[Any]]:
    """The upper triangular ``U`` with ``U.T @ U`` the inverse of the damped ``gram``.

    With ``gram = R @ R.T`` for an upper ``R``, which is Cholesky's factor of the matrix turned around, that
    is the inverse of ``R``. Columns that no input reaches are as if apart from the others.
    """
    dtype = np.float64 if len(gram) <= _WIDEST_IN_FLOAT64 else np.float32
    damped: npt.NDArray[np.floating[Any]] = gram.astype(dtype)
    diagonal = np.diag(damped).copy()
    dead = diagonal == 0
    diagonal[dead] = 1
    mean = diagonal[~dead].mean() if not dead.all() else 1
    np.fill_diagonal(damped, diagonal + _DAMPING * mean)
    turned: npt.NDArray[np.floating[Any]] = np.linalg.cholesky(damped[::-1, ::-1])
    return _inverse_of_upper(np.ascontiguousarray(turned[::-1, ::-1]))


def _inverse_of_upper(matrix: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """The inverse of an upper triangular matrix, by halves."""
    size = len(matrix)
    if size <= 64:
        return np.triu(np.linalg.inv(matrix))
    half = size // 2
    result = np.zeros_like(matrix)
    result[:half, :half] = _inverse_of_upper(matrix[:half, :half])
    result[half:, half:] = _inverse_of_upper(matrix[half:, half:])
    result[:half, half:] = -(result[:half, :half] @ matrix[:half, half:]) @ result[half:, half:]
    return result
