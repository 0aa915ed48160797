"""Codes out of the words that checkpoints keep them in, and numbers of groups spread over smaller ones."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["common_size", "spread", "spread_across", "unpack_bits", "unpack_nibbles"]

AnyArray = npt.NDArray[Any]
Codes = npt.NDArray[np.uint8]


def unpack_bits(words: AnyArray, bits: int, count: int) -> Codes:
    """The first ``count`` numbers of ``bits`` bits in each row of ``words`` ``[rows, n]``, low bits first.

    Numbers follow each other without gaps: one that does not fit in what is left of a word goes on in the
    next.
    """
    octets: Codes = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
    if bits == 8:
        return octets[:, :count]
    if missing := -octets.shape[1] % bits:
        octets = np.pad(octets, ((0, 0), (0, missing)))
    eights = octets.reshape(len(words), -1, bits)  # so many bytes are eight numbers
    codes = np.empty((*eights.shape[:2], 8), np.uint8)
    for number in range(8):
        octet, shift = divmod(number * bits, 8)
        np.right_shift(eights[..., octet], shift, out=codes[..., number])
        if shift + bits > 8:
            codes[..., number] |= eights[..., octet + 1] << np.uint8(8 - shift)
    codes &= np.uint8((1 << bits) - 1)
    return codes.reshape(len(words), -1)[:, :count]


def unpack_nibbles(octets: Codes, *, high_first: bool = False) -> Codes:
    """Two numbers of four bits from each byte ``[..., n]``: ``[..., 2 * n]``."""
    halves = octets & np.uint8(15), octets >> np.uint8(4)
    apart = np.stack(halves[::-1] if high_first else halves, axis=-1)
    return apart.reshape(*octets.shape[:-1], -1)


def common_size(size: int, inputs: int) -> int | None:
    """The size of groups within rows of ``inputs`` of which each lies in one of ``size`` neighbours.

    None are whole rows. Where ``size`` does not divide rows, smaller groups share its numbers.
    """
    common = gcd(size, inputs)
    return None if common == inputs else common


def spread(numbers: AnyArray, size: int, inputs: int) -> AnyArray:
    """Numbers of groups of ``size`` within each row, ``[outputs, groups]``, for groups of the common size."""
    if inputs % size == 0:
        return np.ascontiguousarray(numbers)
    return numbers[:, np.arange(0, inputs, common_size(size, inputs) or inputs) // size]


def spread_across(numbers: AnyArray, size: int, outputs: int, inputs: int) -> AnyArray:
    """The same from ``[groups]``, where groups go on over the ends of rows, as if these were one long row."""
    starts = np.arange(0, outputs * inputs, common_size(size, inputs) or inputs) // size
    return numbers[starts].reshape(outputs, -1)
