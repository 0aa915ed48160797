"""The operators that stand for experts' products in a trace, and how transformers calls them."""

from __future__ import annotations

from typing import Any

import torch
from transformers.integrations.moe import _default_apply_gate

__all__ = ["expert_linear", "mix", "weighted_sum"]


@torch.library.custom_op("ingot::expert_linear", mutates_args=())  # type: ignore[untyped-decorator]
def expert_linear(
    x: torch.Tensor, weight: torch.Tensor, experts: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Rows ``[n, in]`` or ``[n, k, in]`` by the weights ``[experts, out, in]`` of k each; never computed."""
    raise NotImplementedError


@expert_linear.register_fake  # type: ignore[untyped-decorator]
def _(
    x: torch.Tensor, weight: torch.Tensor, experts: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    return x.new_empty(*experts.shape, weight.shape[1])


@torch.library.custom_op("ingot::weighted_sum", mutates_args=())  # type: ignore[untyped-decorator]
def weighted_sum(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum over k of rows ``[n, k, out]`` times weights ``[n, k]``; never computed."""
    raise NotImplementedError


@weighted_sum.register_fake  # type: ignore[untyped-decorator]
def _(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[0], x.shape[2])


def mix(
    module: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """What models call in place of their experts: what lies between the products is as they have it."""

    def linear(x: torch.Tensor, name: str, part: slice = slice(None)) -> torch.Tensor:
        weight = getattr(module, name)
        weight = weight.transpose(1, 2) if module.is_transposed else weight
        bias = getattr(module, f"{name}_bias")[:, part] if module.has_bias else None
        product: torch.Tensor = expert_linear(x, weight[:, part], top_k_index, bias)
        return product

    if not module.has_gate:
        inner = module.act_fn(linear(hidden_states, "up_proj"))
    elif type(module)._apply_gate is _default_apply_gate:
        half = module.gate_up_proj.shape[2 if module.is_transposed else 1] // 2
        gate = linear(hidden_states, "gate_up_proj", slice(half))
        inner = module.act_fn(gate) * linear(hidden_states, "gate_up_proj", slice(half, None))
    else:
        inner = module._apply_gate(linear(hidden_states, "gate_up_proj"))
    outer = linear(inner, "down_proj")
    if module.has_post_expert_norm:
        outer = module.post_expert_norm(outer)
    mixed: torch.Tensor = weighted_sum(outer, top_k_weights)
    return mixed
