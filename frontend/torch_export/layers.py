"""Layers with a state whose own code walks over tokens or blocks of them, said as a scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from ...ir.errors import CompileError
from .scans import inverse_softplus, selective_scan

__all__ = ["RECURRENT_METHODS", "refusal"]

_STEP_OF_ONE = 0.5413248546129181
"""The softplus of this is 1."""


def _lightning(
    self: Any,
    hidden_states: torch.Tensor,
    position_embeddings: Any,
    attention_mask: Any,
    past_key_values: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """MiniMax' linear attention: the state, of keys by values, fades by the same for each token."""
    if past_key_values is not None:
        raise CompileError("a recurrence that begins with a state is no layer")
    batch, tokens, _width = hidden_states.shape
    heads = self.num_attention_heads
    mixed = self.act_fn(self.qkv_proj(hidden_states)).reshape(batch, tokens, heads, 3 * self.head_dim)
    queries, keys, values = torch.split(mixed, self.head_dim, dim=3)
    slopes = self.slope_rate.reshape(heads)
    steps, bias = queries[..., 0] * 0, slopes * 0 + _STEP_OF_ONE
    attended = selective_scan(values, steps, keys, queries, -slopes, None, bias)
    gate = torch.sigmoid(self.output_gate(hidden_states))
    return self.out_proj(gate * self.norm(attended.reshape(batch, tokens, -1))), None


def _real_gated(self: Any, activations: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
    """The RG-LRU of Griffin (De et al., 2024): each channel is a head whose state is one number."""
    batch, tokens, width = activations.shape
    by_block = activations.reshape(batch * tokens, self.num_attention_heads, self.block_width).permute(
        1, 0, 2
    )

    def gate(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        product = torch.baddbmm(bias[:, None, :], by_block, weight)
        return torch.sigmoid(product.transpose(0, 1).reshape(batch, tokens, width))

    entering = gate(self.input_gate_weight, self.input_gate_bias)
    fading = 8.0 * gate(self.recurrent_gate_weight, self.recurrent_gate_bias)
    fading = fading * functional.softplus(
        self.recurrent_param
    )  # the state is multiplied by exp of minus this
    kept = torch.sqrt(1 - torch.exp(-2 * fading))
    first = position_ids[:, :, None] == 0
    added = activations * entering * torch.where(first, torch.ones_like(kept), kept)
    one = (activations[..., :1] * 0 + 1)[..., None]
    steps = inverse_softplus(fading)
    decay = self.recurrent_param * 0 - 1
    # The operator adds what it is given times the step.
    return selective_scan((added / fading)[..., None], steps, one, one, decay, None, None)[..., 0]


def refusal(what: str) -> Callable[..., Any]:
    """A function that says what has no operator here."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise CompileError(f"{what} has no operator")

    return refuse


RECURRENT_METHODS: dict[tuple[str, str], Callable[..., Any]] = {
    ("MiniMaxLightningAttention", "forward"): _lightning,
    ("xLSTMBackend", "forward"): refusal("xLSTM's recurrence, whose state holds its own largest exponent,"),
    ("RecurrentGemmaRglru", "forward"): _real_gated,
}
"""By the class and the method that they stand in for."""
