"""Projections, by matrices of their own or by parts of one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from ...ir.graph import Value
from .builder import ModelBuilder

__all__ = ["GatedQuery", "GroupedLinears", "JoinedLinears", "Linear", "Linears", "Projections"]


@dataclass(frozen=True, slots=True)
class Linear:
    """A projection by a matrix ``[out_features, in_features]``, with or without a bias."""

    name: str
    in_features: int
    out_features: int
    bias: bool = False

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``[..., in_features]`` to ``[..., out_features]``."""
        name = f"{self.name}.weight"
        operands = [builder.arranged(x, name), builder.weight(name, self.out_features, self.in_features)]
        if self.bias:
            operands.append(builder.float32_weight(f"{self.name}.bias", self.out_features))
        return builder.emit("linear", *operands)


@dataclass(frozen=True, slots=True)
class Linears:
    """Several projections of one input, each by a matrix of its own."""

    parts: tuple[Linear, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Elements that each gives."""
        return tuple(part.out_features for part in self.parts)

    def __call__(self, builder: ModelBuilder, x: Value) -> tuple[Value, ...]:
        """``[tokens, in_features]`` to ``[tokens, size]`` for each."""
        return tuple(part(builder, x) for part in self.parts)


@dataclass(frozen=True, slots=True)
class JoinedLinears:
    """Several projections of one input by one matrix, in which theirs lie one below the other."""

    whole: Linear
    sizes: tuple[int, ...]

    def __call__(self, builder: ModelBuilder, x: Value) -> tuple[Value, ...]:
        """``[tokens, in_features]`` to ``[tokens, size]`` for each."""
        rows = self.whole(builder, x)
        stops = list(accumulate(self.sizes))
        return tuple(
            builder.emit("slice", rows, axis=1, start=stop - size, stop=stop)
            for size, stop in zip(self.sizes, stops, strict=True)
        )


@dataclass(frozen=True, slots=True)
class GroupedLinears:
    """Several projections of one input by one matrix, in which theirs alternate.

    Each of ``groups`` groups of rows holds as many of each projection as ``sizes`` says, one below the other.
    """

    whole: Linear
    groups: int
    sizes: tuple[int, ...]

    def __call__(self, builder: ModelBuilder, x: Value) -> tuple[Value, ...]:
        """``[tokens, in_features]`` to ``[tokens, groups * size]`` for each."""
        x = self.arranged(builder, x)
        operands = [self.weights(builder)]
        if self.whole.bias:
            bias = builder.float32_weight(f"{self.whole.name}.bias", self.whole.out_features)
            operands.append(self._parts(builder, bias))
        return tuple(builder.emit("linear", x, *each) for each in zip(*operands, strict=True))

    def arranged(self, builder: ModelBuilder, x: Value) -> Value:
        """``x`` with its columns in the order that those of the matrix have."""
        return builder.arranged(x, f"{self.whole.name}.weight")

    def weights(self, builder: ModelBuilder) -> tuple[Value, ...]:
        """The matrix ``[groups * size, in_features]`` of each projection."""
        whole = self.whole
        return self._parts(
            builder, builder.weight(f"{whole.name}.weight", whole.out_features, whole.in_features)
        )

    def _parts(self, builder: ModelBuilder, rows: Value) -> tuple[Value, ...]:
        width = rows.type.shape[1:]
        grouped = builder.emit("reshape", rows, shape=(self.groups, sum(self.sizes), *width))
        stops = list(accumulate(self.sizes))
        cut = (
            builder.emit("slice", grouped, axis=1, start=stop - size, stop=stop)
            for size, stop in zip(self.sizes, stops, strict=True)
        )
        return tuple(
            builder.emit("reshape", part, shape=(self.groups * size, *width))
            for part, size in zip(cut, self.sizes, strict=True)
        )


@dataclass(frozen=True, slots=True)
class GatedQuery:
    """Projections to queries, keys and values, and to a gate, whose matrix is that of queries."""

    query_and_gate: GroupedLinears
    others: Linears

    def __call__(self, builder: ModelBuilder, x: Value) -> tuple[Value, ...]:
        """``[tokens, in_features]`` to queries, keys, values and the gate, each ``[tokens, size]``."""
        query, gate = self.query_and_gate(builder, x)
        return query, *self.others(builder, x), gate


Projections: TypeAlias = Linears | JoinedLinears | GroupedLinears | GatedQuery
"""Every way in which several projections of one input are kept."""
