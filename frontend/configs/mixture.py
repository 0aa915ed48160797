"""What a layer's mixture of experts is like, whichever family it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import Fields

__all__ = ["MixtureConfig", "late_mixtures", "sparse_layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureConfig:
    """A feed-forward layer of experts, of which a router chooses some for each token.

    Attributes:
        num_experts: experts to choose from.
        experts_per_token: how many are chosen.
        intermediate_size: elements between an expert's projections.
        scores: what the router's logits become, as the operator ``route`` knows it; so are ``groups``,
            ``kept_groups``, ``group_terms``, ``normalize``, ``scale`` and ``jitter``.
        correction_bias: whether a bias for each expert counts for the choice, and for it alone.
        router_bias: whether the router's projection has a bias.
        shared_size: elements between the projections of the expert that every token has; 0 is none.
        shared_gate: whether the shared expert's result is multiplied by the sigmoid of a projection to one
            element.
        clamped: for experts of gpt-oss' form, what a gate is multiplied by on its way to the sigmoid, and
            what gate and up are kept within; they have biases, and gate and up alternate.
    """

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    scores: str = "softmax"
    groups: int = 1
    kept_groups: int = 1
    group_terms: int = 1
    normalize: bool = True
    scale: float = 1.0
    jitter: float = 0.0
    correction_bias: bool = False
    router_bias: bool = False
    shared_size: int = 0
    shared_gate: bool = False
    clamped: tuple[float, float] | None = None

    def check(self, fields: Fields) -> MixtureConfig:
        """This configuration, from ``fields``; raises :class:`ConfigError` where it cannot be."""
        if self.num_experts % self.groups or self.kept_groups > self.groups:
            raise fields.refuse(
                f"{self.kept_groups} of {self.groups} groups cannot be kept of {self.num_experts} experts"
            )
        left = self.num_experts // self.groups * self.kept_groups
        if self.experts_per_token > left:
            raise fields.refuse(f"num_experts_per_tok {self.experts_per_token} is more than {left} experts")
        if self.group_terms > self.num_experts // self.groups:
            raise fields.refuse(f"{self.num_experts} experts in {self.groups} groups are too few in a group")
        return self


def sparse_layers(fields: Fields) -> tuple[bool, ...]:
    """Which layers are mixtures, as Qwen has it.

    They are every ``decoder_sparse_step``-th, without ``mlp_only_layers``.
    """
    dense, step = fields.integers("mlp_only_layers"), fields.integer("decoder_sparse_step", 1)
    return tuple(
        layer not in dense and (layer + 1) % step == 0 for layer in range(fields.integer("num_hidden_layers"))
    )


def late_mixtures(
    fields: Fields, mixture: MixtureConfig, *, default_dense: int
) -> tuple[MixtureConfig | None, ...]:
    """Each layer's mixture, as DeepSeek has it: all but the ``first_k_dense_replace`` first are mixtures."""
    if (step := fields.integer("moe_layer_freq", 1)) != 1:
        raise fields.refuse(f"moe_layer_freq {step} is not supported; supported is 1")
    num_layers = fields.integer("num_hidden_layers")
    dense = min(fields.integer("first_k_dense_replace", default_dense, least=0), num_layers)
    return (None,) * dense + (mixture,) * (num_layers - dense)
