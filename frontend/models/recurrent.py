"""Blocks that keep a state: each stands in the place of attention, and takes what that takes."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Value
from ..configs import GatedDeltaConfig, Mamba2Config, RecurrentConfig, ShortConvolutionConfig
from .blocks import RmsNorm
from .builder import ModelBuilder
from .convolution import ShortConvolution, convolve
from .delta_net import GatedDeltaNet
from .linears import JoinedLinears, Linear
from .rotary import Rotation

__all__ = ["Mamba2", "recurrent_block"]


def recurrent_block(
    name: str, hidden_size: int, config: RecurrentConfig
) -> ShortConvolution | Mamba2 | GatedDeltaNet:
    """The block that ``config`` asks for, whose tensors' names begin with ``name``."""
    match config:
        case ShortConvolutionConfig():
            return ShortConvolution(name, hidden_size, config)
        case GatedDeltaConfig():
            return GatedDeltaNet(name, hidden_size, config)
        case Mamba2Config():
            return Mamba2(name, hidden_size, config)


@dataclass(frozen=True, slots=True)
class Mamba2:
    """A projection, a convolution, the scan, a gate with its norm, and a projection back (Dao and Gu, 2024).

    ``name`` is that of its tensors ``in_proj``, ``conv1d``, ``A_log``, ``D``, ``dt_bias``, ``norm`` and
    ``out_proj``. All heads share what is written to their states and read from them.
    """

    name: str
    hidden_size: int
    config: Mamba2Config

    def __call__(self, builder: ModelBuilder, x: Value, rotation: Rotation | None, mask: Value) -> Value:
        """``[tokens, hidden_size]`` to the same; the rotation and the mask are attention's."""
        config, heads, bias = self.config, self.config.heads, self.config.projection_bias
        inner = heads * config.head_dim
        sizes = (inner, inner + 2 * config.state, heads)
        joined = Linear(f"{self.name}.in_proj", self.hidden_size, sum(sizes), bias)
        gate, rows, steps = JoinedLinears(joined, sizes)(builder, x)
        convolved = convolve(builder, rows, f"{self.name}.conv1d", config.taps, config.convolution_bias)
        scanned = self._scan(builder, builder.emit("silu", convolved), steps)
        gated = builder.emit("mul", scanned, builder.emit("silu", gate))
        normed = RmsNorm(f"{self.name}.norm", inner, config.norm_epsilon)(builder, gated)
        return Linear(f"{self.name}.out_proj", inner, self.hidden_size, bias)(builder, normed)

    def _scan(self, builder: ModelBuilder, rows: Value, steps: Value) -> Value:
        """``rows`` hold, side by side, what is scanned, what is written to the state, and what reads it."""
        config, heads, inner = self.config, self.config.heads, self.config.heads * self.config.head_dim
        ends = (0, inner, inner + config.state, inner + 2 * config.state)
        parts = ((heads, config.head_dim), (1, config.state), (1, config.state))
        x, b, c = (
            builder.emit(
                "reshape",
                builder.emit("slice", rows, axis=1, start=ends[index], stop=ends[index + 1]),
                shape=("tokens", *shape),
            )
            for index, shape in enumerate(parts)
        )
        decay, skip, bias = (
            builder.float32_weight(f"{self.name}.{part}", heads) for part in ("A_log", "D", "dt_bias")
        )
        decay = builder.emit("neg", builder.emit("exp", decay))
        scanned = builder.emit("selective_scan", x, steps, b, c, decay, skip, bias)
        return builder.emit("reshape", scanned, shape=("tokens", inner))
