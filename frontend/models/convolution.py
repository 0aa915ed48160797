"""Convolutions over the tokens: a block's part, and LFM2's block in the place of attention."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Value
from ..configs import ShortConvolutionConfig
from .builder import ModelBuilder
from .linears import JoinedLinears, Linear
from .rotary import Rotation

__all__ = ["ShortConvolution", "convolve"]


def convolve(builder: ModelBuilder, x: Value, name: str, taps: int, bias: bool) -> Value:
    """``x`` ``[tokens, channels]`` convolved by the tensors ``name``, stored as by torch's ``Conv1d``."""
    channels = int(x.type.shape[1])
    stored = builder.float32_weight(f"{name}.weight", channels, 1, taps)
    by_channel = builder.emit("reshape", stored, shape=(channels, taps))
    operands = [x, builder.emit("transpose", by_channel, axes=(1, 0))]
    if bias:
        operands.append(builder.float32_weight(f"{name}.bias", channels))
    return builder.emit("causal_conv", *operands)


@dataclass(frozen=True, slots=True)
class ShortConvolution:
    """``out(c * convolution(b * x))``, with b, c and x projections of the input (LFM2; Liquid AI, 2025).

    ``name`` is that of its tensors ``in_proj``, ``conv`` and ``out_proj``.
    """

    name: str
    hidden_size: int
    config: ShortConvolutionConfig

    def __call__(self, builder: ModelBuilder, x: Value, rotation: Rotation | None, mask: Value) -> Value:
        """``[tokens, hidden_size]`` to the same; the rotation and the mask are attention's."""
        hidden, bias = self.hidden_size, self.config.bias
        projections = JoinedLinears(Linear(f"{self.name}.in_proj", hidden, 3 * hidden, bias), (hidden,) * 3)
        b, c, x = projections(builder, x)
        mixed = convolve(builder, builder.emit("mul", b, x), f"{self.name}.conv", self.config.taps, bias)
        return Linear(f"{self.name}.out_proj", hidden, hidden, bias)(builder, builder.emit("mul", c, mixed))
