"""Gated delta networks (Yang, Kautz and Hatamizadeh, 2024) as plain operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.graph import Value
from ..configs import GatedDeltaConfig
from .blocks import RmsNorm, normed
from .builder import ModelBuilder
from .convolution import convolve
from .linears import GroupedLinears, Linear
from .rotary import Rotation

__all__ = ["GatedDeltaNet"]

_EPSILON = 1e-6
"""What is added to the square of a key's length, whatever ``rms_norm_eps`` says of the norms."""


@dataclass(frozen=True, slots=True)
class GatedDeltaNet:
    """Projections, a convolution of queries, keys and values, the delta rule, a norm with a gate, and back.

    ``name`` is that of its tensors ``conv1d``, ``A_log``, ``dt_bias``, ``norm``, ``out_proj``, and of the
    projections: ``in_proj_qkvz`` and ``in_proj_ba``, in which each group of heads has its own together, or
    ``in_proj_qkv``, ``in_proj_z``, ``in_proj_b`` and ``in_proj_a``.
    """

    name: str
    hidden_size: int
    config: GatedDeltaConfig

    def __call__(self, builder: ModelBuilder, x: Value, rotation: Rotation | None, mask: Value) -> Value:
        """``[tokens, hidden_size]`` to the same; the rotation and the mask are attention's."""
        config, heads = self.config, self.config.heads
        mixed, gate, rates, steps = self._projected(builder, x)
        convolved = builder.emit(
            "silu", convolve(builder, mixed, f"{self.name}.conv1d", config.taps, bias=False)
        )
        q, k, v = self._heads(builder, convolved)
        decay, bias = (builder.float32_weight(f"{self.name}.{part}", heads) for part in ("A_log", "dt_bias"))
        decay = builder.emit("neg", builder.emit("exp", decay))
        recalled = builder.emit(
            "gated_delta_rule", q, k, v, steps, builder.emit("sigmoid", rates), decay, bias
        )
        rows = RmsNorm(f"{self.name}.norm", config.value_dim, config.norm_epsilon)(builder, recalled)
        gate = builder.emit("reshape", gate, shape=("tokens", heads, config.value_dim))
        gated = builder.emit("mul", rows, builder.emit("silu", gate))
        rows = builder.emit("reshape", gated, shape=("tokens", heads * config.value_dim))
        return Linear(f"{self.name}.out_proj", heads * config.value_dim, self.hidden_size)(builder, rows)

    def _projected(self, builder: ModelBuilder, x: Value) -> tuple[Value, Value, Value, Value]:
        """Queries, keys and values side by side; the gate; and for each head its rate and its step."""
        config, hidden = self.config, self.hidden_size
        keys, values = config.groups * config.key_dim, config.heads * config.value_dim
        if not config.is_joined:
            parts = {"qkv": 2 * keys + values, "z": values, "b": config.heads, "a": config.heads}
            mixed, gate, rates, steps = (
                Linear(f"{self.name}.in_proj_{part}", hidden, size)(builder, x)
                for part, size in parts.items()
            )
            return mixed, gate, rates, steps
        group = config.heads // config.groups
        values_of_group = group * config.value_dim
        whole = Linear(f"{self.name}.in_proj_qkvz", hidden, 2 * (keys + values))
        sizes = (config.key_dim, config.key_dim, values_of_group, values_of_group)
        grouped = GroupedLinears(whole, config.groups, sizes)
        arranged = grouped.arranged(builder, x)
        *own, of_gate = grouped.weights(builder)
        both = Linear(f"{self.name}.in_proj_ba", hidden, 2 * config.heads)
        rates, steps = GroupedLinears(both, config.groups, (group, group))(builder, x)
        mixed = builder.emit("linear", arranged, builder.emit("concat", *own, axis=0))
        return mixed, builder.emit("linear", arranged, of_gate), rates, steps

    def _heads(self, builder: ModelBuilder, rows: Value) -> tuple[Value, Value, Value]:
        """Queries and keys ``[tokens, groups, key_dim]``, these of length 1, and values of each head."""
        config = self.config
        keys, values = config.groups * config.key_dim, config.heads * config.value_dim
        ends = (0, keys, 2 * keys, 2 * keys + values)
        shapes = [(config.groups, config.key_dim)] * 2 + [(config.heads, config.value_dim)]
        q, k, v = (
            builder.emit(
                "reshape",
                builder.emit("slice", rows, axis=1, start=ends[index], stop=ends[index + 1]),
                shape=("tokens", *shape),
            )
            for index, shape in enumerate(shapes)
        )
        return self._of_length(builder, q, config.key_dim**-0.5), self._of_length(builder, k, 1.0), v

    def _of_length(self, builder: ModelBuilder, x: Value, length: float) -> Value:
        """``x`` with heads of this length: a mean square is that of the length over the elements."""
        size = self.config.key_dim
        weight = builder.constant(np.full(size, length * size**-0.5, np.float32))
        return builder.emit("mul", normed(builder, x, _EPSILON / size), weight)
