"""Mixtures of experts that do not ask transformers for an implementation: ours, in their methods' places.

Their own code sorts tokens by expert, which no trace can follow. These say the same of each token. What a
model's parameters are called, and how they lie, is as its class has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .experts import expert_linear, weighted_sum

__all__ = ["METHODS"]


def _dbrx(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """All experts' matrices are one below the other; the last is stored the other way round."""
    shape = (self.num_experts, self.ffn_hidden_size, self.hidden_size)
    rows = hidden_states.reshape(-1, self.hidden_size)
    gate = expert_linear(rows, self.mlp.w1.view(shape), top_k_index, None)
    up = expert_linear(rows, self.mlp.v1.view(shape), top_k_index, None)
    down = self.mlp.w2.view(shape).transpose(1, 2)
    outer = expert_linear(self.mlp.activation_fn(gate) * up, down, top_k_index, None)
    return weighted_sum(outer, top_k_weights).view(hidden_states.shape)


def _longcat(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Experts behind the last real one give back what they get."""
    last = self.num_routed_experts - 1
    idle = (top_k_index.to(torch.float32) - last).clamp(0, 1)  # 1 for those, as numbers are whole
    experts = top_k_index.clamp(max=last)
    half = self.gate_up_proj.shape[1] // 2
    gate, up = (
        expert_linear(hidden_states, part, experts, None)
        for part in (self.gate_up_proj[:, :half], self.gate_up_proj[:, half:])
    )
    outer = expert_linear(self.act_fn(gate) * up, self.down_proj, experts, None)
    mixed = weighted_sum(outer, top_k_weights * (1 - idle))
    return mixed + hidden_states * (top_k_weights * idle).sum(-1, keepdim=True)


def _llama4(self: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Experts get tokens times their weights, and what they give is added up."""
    rows = hidden_states.reshape(-1, self.hidden_dim)
    logits = torch.nn.functional.linear(rows, self.router.weight, self.router.bias)
    best, experts = torch.topk(logits, self.top_k, dim=1)
    weighted = rows[:, None, :] * torch.sigmoid(best)[:, :, None]
    matrices = self.experts.gate_up_proj.transpose(1, 2)
    half = matrices.shape[1] // 2
    gate, up = (
        expert_linear(weighted, part, experts, None) for part in (matrices[:, :half], matrices[:, half:])
    )
    inner = up * self.experts.act_fn(gate)
    outer = expert_linear(inner, self.experts.down_proj.transpose(1, 2), experts, None)
    return self.shared_expert(rows) + outer.sum(1), logits


def _chosen(router: Any, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The experts of each row and their weights, as JetMoe's router has them."""
    best, experts = router.layer(rows).topk(router.top_k, dim=1)
    return experts, torch.softmax(best, dim=1)


def _jetmoe(self: Any, layer_input: torch.Tensor) -> torch.Tensor:
    rows = layer_input.reshape(-1, layer_input.shape[-1])
    experts, weights = _chosen(self.router, rows)
    half = self.input_linear.weight.shape[1] // 2
    gate, up = (
        expert_linear(rows, part, experts, None)
        for part in (self.input_linear.weight[:, :half], self.input_linear.weight[:, half:])
    )
    outer = expert_linear(self.activation(gate) * up, self.output_linear.weight, experts, None)
    return weighted_sum(outer, weights).view(layer_input.shape) + self.bias


def _jetmoe_queries(self: Any, layer_input: torch.Tensor) -> tuple[torch.Tensor, None, Any]:
    """Each chosen expert's queries ``[batch, tokens, k, width]``."""
    rows = layer_input.reshape(-1, layer_input.shape[-1])
    experts, weights = _chosen(self.router, rows)
    queries = expert_linear(rows, self.input_linear.weight, experts, None)
    return queries.view(*layer_input.shape[:2], *queries.shape[1:]), None, (experts, weights)


def _jetmoe_outputs(self: Any, layer_input: torch.Tensor, topo_info: Any) -> torch.Tensor:
    batch, length, count, width = layer_input.shape
    experts, weights = topo_info
    rows = layer_input.reshape(batch * length, count, width)
    outer = expert_linear(rows, self.output_linear.weight, experts, None)
    return weighted_sum(outer, weights).view(batch, length, -1) + self.bias


@torch.library.custom_op("ingot::sparse_mix", mutates_args=())  # type: ignore[untyped-decorator]
def _sparse_mix(logits: torch.Tensor, count: int, jitter: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and experts by our ``route`` of the kind ``sparsemixer``; never computed."""
    raise NotImplementedError


@_sparse_mix.register_fake  # type: ignore[untyped-decorator]
def _(logits: torch.Tensor, count: int, jitter: float) -> tuple[torch.Tensor, torch.Tensor]:
    shape = logits.shape[0], count
    return logits.new_empty(shape), logits.new_empty(shape, dtype=torch.int64)


def _phimoe(self: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    logits = torch.nn.functional.linear(hidden_states, self.weight, self.bias)
    return logits, *_sparse_mix(logits, self.top_k, float(self.router_jitter_noise))


METHODS: dict[tuple[str, str], Callable[..., Any]] = {
    ("DbrxExperts", "forward"): _dbrx,
    ("LongcatFlashExperts", "forward"): _longcat,
    ("Llama4TextMoe", "forward"): _llama4,
    ("PhimoeTopKRouter", "forward"): _phimoe,
    ("JetMoeMoE", "forward"): _jetmoe,
    ("JetMoeMoA", "map"): _jetmoe_queries,
    ("JetMoeMoA", "reduce"): _jetmoe_outputs,
}
"""By the class and the method that they stand in for."""
