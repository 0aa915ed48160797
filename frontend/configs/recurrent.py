"""The configuration of layers that keep a state in place of keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["GatedDeltaConfig", "Mamba2Config", "RecurrentConfig", "ShortConvolutionConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConvolutionConfig:
    """A convolution of each channel over the last tokens, between two gates.

    Attributes:
        taps: tokens it sees, its own included.
        bias: whether projections and convolution have biases.
    """

    taps: int
    bias: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2Config:
    """A selective scan behind a convolution (Dao and Gu, 2024).

    Attributes:
        heads: heads of the scan.
        head_dim: elements of a head.
        state: rows of a head's state, each of ``head_dim`` elements.
        taps: tokens the convolution sees, its own included.
        convolution_bias: whether the convolution has a bias.
        projection_bias: whether the projections have biases.
        norm_epsilon: what the norm behind the gate adds to the mean square.
    """

    heads: int
    head_dim: int
    state: int
    taps: int
    convolution_bias: bool
    projection_bias: bool
    norm_epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDeltaConfig:
    """A gated delta network (Yang, Kautz and Hatamizadeh, 2024).

    Attributes:
        heads: heads, each with a state ``[key_dim, value_dim]``.
        groups: of neighbouring heads that share queries and keys.
        key_dim: elements of a query and of a key.
        value_dim: elements of a value.
        taps: tokens the convolution sees, its own included.
        norm_epsilon: what the norm before the gate adds to the mean square.
        is_joined: whether the projections are kept as two matrices, by groups, and not as four.
    """

    heads: int
    groups: int
    key_dim: int
    value_dim: int
    taps: int
    norm_epsilon: float
    is_joined: bool


RecurrentConfig: TypeAlias = ShortConvolutionConfig | Mamba2Config | GatedDeltaConfig
"""Every kind of layer that stands in the place of attention."""
