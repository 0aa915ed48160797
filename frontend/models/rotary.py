"""Rotary embeddings as plain operators: cosines and sines once for the model, and how they turn a head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.graph import Value
from ..configs import DynamicRope, Rope
from .builder import ModelBuilder, scalar

__all__ = ["Rotation", "rotation"]


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosines and sines, each float32 ``[tokens, 1, head_dim]``, the second half equal to the first."""

    cosines: Value
    sines: Value
    head_dim: int

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``x`` ``[tokens, heads, head_dim]``, element i turned together with element i + head_dim / 2."""
        half = self.head_dim // 2
        first = builder.emit("slice", x, axis=2, start=0, stop=half)
        second = builder.emit("slice", x, axis=2, start=half, stop=self.head_dim)
        turned = builder.emit("concat", builder.emit("neg", second), first, axis=2)
        return builder.emit(
            "add", builder.emit("mul", x, self.cosines), builder.emit("mul", turned, self.sines)
        )


def rotation(builder: ModelBuilder, rope: Rope, head_dim: int, positions: Value) -> Rotation:
    """Emit the cosines and sines of ``positions`` int32 ``[tokens]``."""
    half = head_dim // 2
    column = builder.emit("reshape", builder.emit("cast", positions, to="float32"), shape=("tokens", 1))
    frequencies = builder.constant(rope.inverse_frequencies(head_dim))
    row = builder.emit("reshape", frequencies, shape=(1, half))
    if isinstance(rope, DynamicRope):
        row = builder.emit("mul", row, _growth(builder, rope, head_dim, column))
    angles = builder.emit("mul", column, row)
    both = builder.emit("concat", angles, angles, axis=1)
    cosines, sines = builder.emit("cos", both), builder.emit("sin", both)
    if rope.attention_factor != 1.0:
        factor = builder.constant(scalar(rope.attention_factor))
        cosines, sines = builder.emit("mul", cosines, factor), builder.emit("mul", sines, factor)
    cosines, sines = (builder.emit("reshape", x, shape=("tokens", 1, head_dim)) for x in (cosines, sines))
    return Rotation(cosines, sines, head_dim)


def _growth(builder: ModelBuilder, rope: DynamicRope, head_dim: int, positions: Value) -> Value:
    """What the longer base does to each token's frequencies, ``[tokens, head_dim / 2]``; 1 up to the maximum.

    A token's length is its position + 1. Counting from the maximum's last position on keeps the growth at
    exactly 1 up to there.
    """
    last = builder.constant(scalar(rope.max_position_embeddings - 1))
    beyond = builder.emit("sub", builder.emit("maximum", positions, last), last)
    rise = builder.emit("mul", beyond, builder.constant(scalar(rope.growth_factor)))
    growth = builder.emit("add", rise, builder.constant(scalar(1.0)))
    exponents = builder.constant(rope.growth_exponents(head_dim)[np.newaxis])
    return builder.emit("pow", growth, exponents)
