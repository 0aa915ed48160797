"""A mixture of experts as plain operators: router, experts, and what all tokens share."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Value
from ..configs import MixtureConfig
from .blocks import GatedFeedForward
from .builder import ModelBuilder, scalar
from .linears import JoinedLinears, Linear, Linears, Projections

__all__ = ["MixtureNames", "MixtureOfExperts", "Router"]


@dataclass(frozen=True, slots=True)
class MixtureNames:
    """Where a checkpoint keeps a mixture, within a layer.

    Each expert has tensors of its own, whose names have its number, or ``gate_up`` and ``down`` hold those of
    all: ``[experts, 2 * intermediate_size, hidden_size]`` and ``[experts, hidden_size, intermediate_size]``.
    In place of ``gate_up`` there may be ``gate`` and ``up``, ``[experts, intermediate_size, hidden_size]``.
    Which of these it is, the checkpoint says.
    The shared expert has tensors of its own below ``shared``, or those of ``joined_shared``: gate and up as
    one, and down.
    """

    router: str = "mlp.gate"
    correction: str = "mlp.gate.e_score_correction_bias"
    expert_gate: str = "mlp.experts.{expert}.gate_proj.weight"
    expert_up: str = "mlp.experts.{expert}.up_proj.weight"
    expert_down: str = "mlp.experts.{expert}.down_proj.weight"
    gate_up: str = "mlp.experts.gate_up_proj"
    gate: str = "mlp.experts.gate_proj"
    up: str = "mlp.experts.up_proj"
    down: str = "mlp.experts.down_proj"
    shared: str = "mlp.shared_experts"
    shared_gate: str = "mlp.shared_expert_gate"
    joined_shared: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Router:
    """Chooses experts by a projection to one logit for each."""

    projection: Linear
    correction: str
    config: MixtureConfig

    def __call__(self, builder: ModelBuilder, x: Value) -> tuple[Value, Value]:
        """Experts int32 and weights float32, each ``[tokens, experts_per_token]``."""
        config = self.config
        operands = [self.projection(builder, x)]
        if config.correction_bias:
            operands.append(builder.float32_weight(self.correction, config.num_experts))
        experts, weights = builder.emit_all(
            "route",
            *operands,
            experts_per_token=config.experts_per_token,
            scores=config.scores,
            groups=config.groups,
            kept_groups=config.kept_groups,
            group_terms=config.group_terms,
            normalize=config.normalize,
            scale=config.scale,
            jitter=config.jitter,
        )
        return experts, weights


@dataclass(frozen=True, slots=True)
class MixtureOfExperts:
    """The weighted sum of what a token's experts say, each a gated feed-forward, and of the shared one's.

    ``prefix`` is the layer's, and ``hidden_size`` a token's.
    """

    prefix: str
    names: MixtureNames
    hidden_size: int
    config: MixtureConfig
    activation: str = "silu"

    def __call__(self, builder: ModelBuilder, x: Value) -> Value:
        """``[tokens, hidden_size]`` to the same."""
        config, names = self.config, self.names
        projection = Linear(
            self._name(names.router), self.hidden_size, config.num_experts, bias=config.router_bias
        )
        experts, weights = Router(projection, self._name(names.correction), config)(builder, x)
        form = self._clamped if config.clamped else self._gated
        mixed = builder.emit("weighted_sum", form(builder, x, experts), weights)
        if not config.shared_size:
            return mixed
        return builder.emit("add", mixed, self._shared(builder, x))

    def _gated(self, builder: ModelBuilder, x: Value, experts: Value) -> Value:
        """What each expert says of its tokens, ``[tokens, experts_per_token, hidden_size]``."""
        gate, up, down = self._weights(builder)
        opened = builder.emit(self.activation, builder.emit("expert_linear", x, gate, experts))
        gated = builder.emit("mul", opened, builder.emit("expert_linear", x, up, experts))
        return builder.emit("expert_linear", gated, down, experts)

    def _clamped(self, builder: ModelBuilder, x: Value, experts: Value) -> Value:
        """The same for ``(up + 1) * gate * sigmoid(alpha * gate)``, gate and up within a limit."""
        alpha, limit = self.config.clamped or (1.0, 0.0)
        (gate_weight, gate_bias), (up_weight, up_bias), (down, down_bias) = self._biased_weights(builder)
        gate = builder.emit("expert_linear", x, gate_weight, experts, gate_bias)
        up = builder.emit("expert_linear", x, up_weight, experts, up_bias)
        most, least = (builder.constant(scalar(number)) for number in (limit, -limit))
        gate = builder.emit("minimum", gate, most)
        up = builder.emit("maximum", builder.emit("minimum", up, most), least)
        steep = builder.emit("mul", gate, builder.constant(scalar(alpha)))
        opened = builder.emit("mul", gate, builder.emit("sigmoid", steep))
        gated = builder.emit("mul", builder.emit("add", up, builder.constant(scalar(1.0))), opened)
        return builder.emit("expert_linear", gated, down, experts, down_bias)

    def _biased_weights(self, builder: ModelBuilder) -> tuple[tuple[Value, Value], ...]:
        """Gate, up and down of all experts, ``[experts, outputs, inputs]``, each with its bias.

        Where gate and up are stored together, they alternate.
        """
        names, hidden, wide = self.names, self.hidden_size, self.config.intermediate_size
        count = self.config.num_experts

        def bias(part: str, size: int) -> Value:
            return builder.float32_weight(self._name(f"{part}_bias"), count, size)

        if builder.holds(self._name(names.gate)):
            return (
                *(
                    (builder.weight(self._name(part), count, wide, hidden), bias(part, wide))
                    for part in (names.gate, names.up)
                ),
                (builder.weight(self._name(names.down), count, hidden, wide), bias(names.down, hidden)),
            )
        both, biases = (
            self._outputs_first(builder, names.gate_up, 2 * wide, hidden),
            bias(names.gate_up, 2 * wide),
        )
        return (
            *(
                (_every_second(builder, both, first), _every_second(builder, biases, first))
                for first in (0, 1)
            ),
            (self._outputs_first(builder, names.down, hidden, wide), bias(names.down, hidden)),
        )

    def _outputs_first(self, builder: ModelBuilder, name: str, outputs: int, inputs: int) -> Value:
        """Weights ``[experts, outputs, inputs]``: so are those in blocks (MXFP4), others are transposed."""
        count, blocks = self.config.num_experts, self._name(f"{name}_blocks")
        if builder.holds(blocks):
            return builder.weight(blocks, count, outputs, inputs)
        weight = builder.weight(self._name(name), count, inputs, outputs)
        return builder.emit("transpose", weight, axes=(0, 2, 1))

    def _weights(self, builder: ModelBuilder) -> tuple[Value, Value, Value]:
        """Gate, up and down of all experts, ``[experts, outputs, inputs]``."""
        config, names, hidden = self.config, self.names, self.hidden_size
        count, wide = config.num_experts, config.intermediate_size
        if builder.holds(self._name(names.gate_up)):
            both = builder.weight(self._name(names.gate_up), count, 2 * wide, hidden)
            gate = builder.emit("slice", both, axis=1, start=0, stop=wide)
            up = builder.emit("slice", both, axis=1, start=wide, stop=2 * wide)
            return gate, up, builder.weight(self._name(names.down), count, hidden, wide)
        if builder.holds(self._name(names.gate)):
            gate, up = (
                builder.weight(self._name(name), count, wide, hidden) for name in (names.gate, names.up)
            )
            return gate, up, builder.weight(self._name(names.down), count, hidden, wide)
        return (
            self._stacked(builder, names.expert_gate, wide, hidden),
            self._stacked(builder, names.expert_up, wide, hidden),
            self._stacked(builder, names.expert_down, hidden, wide),
        )

    def _stacked(self, builder: ModelBuilder, name: str, outputs: int, inputs: int) -> Value:
        numbered = (self._name(name.format(expert=expert)) for expert in range(self.config.num_experts))
        return builder.emit("stack", *(builder.weight(each, outputs, inputs) for each in numbered))

    def _shared(self, builder: ModelBuilder, x: Value) -> Value:
        names, hidden, wide = self.names, self.hidden_size, self.config.shared_size
        if names.joined_shared is not None:
            both, down = map(self._name, names.joined_shared)
            projections: Projections = JoinedLinears(Linear(both, hidden, 2 * wide), (wide, wide))
        else:
            gate, up, down = (self._name(f"{names.shared}.{part}_proj") for part in ("gate", "up", "down"))
            projections = Linears((Linear(gate, hidden, wide), Linear(up, hidden, wide)))
        shared = GatedFeedForward(projections, Linear(down, wide, hidden), self.activation)(builder, x)
        if not self.config.shared_gate:
            return shared
        opened = builder.emit("sigmoid", Linear(self._name(names.shared_gate), hidden, 1)(builder, x))
        return builder.emit("mul", shared, opened)

    def _name(self, part: str) -> str:
        return f"{self.prefix}.{part}"


def _every_second(builder: ModelBuilder, x: Value, first: int) -> Value:
    """What ``first``, ``first + 2``, ... have of the second dimension."""
    count, size, *rest = x.type.shape
    pairs = builder.emit("reshape", x, shape=(count, int(size) // 2, 2, *rest))
    part = builder.emit("slice", pairs, axis=2, start=first, stop=first + 1)
    return builder.emit("reshape", part, shape=(count, int(size) // 2, *rest))
