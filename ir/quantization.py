"""Quantization formats are data: one declarative value each, from which everything else derives.

A format divides the last dimension into groups of ``group_size`` and keeps for each element a signed whole
number of ``bits`` bits, for each group one scale: ``value = code * scale``. Packing for a target, the
kernels' inner dequantization and the interpreter's meaning follow from these fields; to add a format, add an
entry to ``FORMATS``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import IRError

__all__ = ["FORMATS", "QuantFormat", "QuantizedArray", "dequantize", "find_format", "quantize"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class QuantFormat:
    """Signed integers in groups along the last dimension, with one scale a group.

    ``search_steps`` is how many scales around the plain one are tried for the least squared error when
    weights are quantized; 0 takes the plain one (largest magnitude over the largest code), as for
    activations, whose scale is found while the model runs. ``scale_type`` is ``float16`` or ``float32``.
    """

    name: str
    bits: int
    group_size: int
    scale_type: str
    search_steps: int

    @property
    def smallest(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1))

    @property
    def largest(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1

    @property
    def bits_per_element(self) -> float:
        """Bits an element takes, its share of the scale included."""
        return self.bits + 8 * np.dtype(self.scale_type).itemsize / self.group_size


FORMATS: dict[str, QuantFormat] = {
    entry.name: entry
    for entry in (
        QuantFormat("int4_g32", bits=4, group_size=32, scale_type="float16", search_steps=9),
        QuantFormat("int8_g32", bits=8, group_size=32, scale_type="float16", search_steps=9),
        QuantFormat("dynamic_int8_g32", bits=8, group_size=32, scale_type="float32", search_steps=0),
    )
}
"""Every format by name. ``dynamic_`` formats are for activations."""


def find_format(name: str) -> QuantFormat:
    """The format called ``name``; raises :class:`IRError` that lists those there are."""
    try:
        return FORMATS[name]
    except KeyError:
        raise IRError(
            f"no element type or quantization format '{name}'; formats: {', '.join(FORMATS)}"
        ) from None


@dataclass(frozen=True, slots=True)
class QuantizedArray:
    """A tensor in a format: ``codes`` int8 ``[..., n]`` and ``scales`` ``[..., n / group_size]``."""

    format: QuantFormat
    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.floating]

    @property
    def shape(self) -> tuple[int, ...]:
        """The logical shape."""
        return self.codes.shape


def dequantize(array: QuantizedArray) -> FloatArray:
    """Values of ``array`` as float32, in its logical shape."""
    size = array.format.group_size
    groups = array.codes.astype(np.float32).reshape(*array.shape[:-1], -1, size)
    return (groups * array.scales.astype(np.float32)[..., None]).reshape(array.shape)


def quantize(values: npt.NDArray[np.floating], quant_format: QuantFormat) -> QuantizedArray:
    """Round ``values`` ``[..., n]`` (n a multiple of the group size) to ``quant_format``.

    With ``search_steps`` the scale of each group minimises the squared error over candidates: the largest
    magnitude (with its sign, so that the longer, negative side of two's complement can serve it) over
    ``-smallest + step / 4``, and each candidate's scale is then refitted by least squares to the codes it
    gives.
    """
    groups = values.astype(np.float32).reshape(*values.shape[:-1], -1, quant_format.group_size)
    if quant_format.search_steps:
        codes, scales = _search(groups, quant_format)
    else:
        scales = (np.abs(groups).max(axis=-1) / np.float32(quant_format.largest)).astype(
            quant_format.scale_type
        )
        codes = _round_to(groups, scales, quant_format)
    return QuantizedArray(quant_format, codes.astype(np.int8).reshape(values.shape), scales)


def _round_to(groups: FloatArray, scales: npt.NDArray[np.floating], quant_format: QuantFormat) -> FloatArray:
    """Codes of ``groups`` ``[..., g, size]`` for ``scales`` ``[..., g]``; a zero scale gives zeros."""
    wide = scales.astype(np.float32)
    inverse = np.divide(np.float32(1), wide, out=np.zeros_like(wide), where=wide != 0)
    return np.clip(np.rint(groups * inverse[..., None]), quant_format.smallest, quant_format.largest)


def _search(groups: FloatArray, quant_format: QuantFormat) -> tuple[FloatArray, npt.NDArray[np.floating]]:
    """The best codes ``[..., g, size]`` and scales ``[..., g]`` over the format's candidates."""
    where = np.abs(groups).argmax(axis=-1)[..., None]
    peak = np.take_along_axis(groups, where, axis=-1)[..., 0]
    best_error = np.full(peak.shape, np.inf, np.float32)
    best_scales = np.zeros(peak.shape, quant_format.scale_type)
    middle = quant_format.search_steps // 2
    for step in range(quant_format.search_steps):
        first = peak / np.float32(quant_format.smallest + (step - middle) / 4)
        codes = _round_to(groups, first, quant_format)
        energy = (codes * codes).sum(axis=-1)
        fitted = np.divide((groups * codes).sum(axis=-1), energy, out=first.copy(), where=energy > 0)
        scales = fitted.astype(quant_format.scale_type)
        residual = groups - codes * scales.astype(np.float32)[..., None]
        error = (residual * residual).sum(axis=-1)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scales = np.where(better, scales, best_scales)
    return _round_to(groups, best_scales, quant_format), best_scales
