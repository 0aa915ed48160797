"""The operators that stand for recurrences in a trace; they leave one node each, and are never computed."""

from __future__ import annotations

import torch

__all__ = ["gated_delta_rule", "inverse_softplus", "selective_scan"]


@torch.library.custom_op("ingot::selective_scan", mutates_args=())  # type: ignore[untyped-decorator]
def selective_scan(
    x: torch.Tensor,
    steps: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    decay: torch.Tensor,
    skip: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """The scan of our operator of this name, with the batch in front of each of the first four."""
    raise NotImplementedError


@selective_scan.register_fake  # type: ignore[untyped-decorator]
def _(
    x: torch.Tensor,
    steps: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    decay: torch.Tensor,
    skip: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("ingot::gated_delta_rule", mutates_args=())  # type: ignore[untyped-decorator]
def gated_delta_rule(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, steps: torch.Tensor, rates: torch.Tensor
) -> torch.Tensor:
    """Our operator of this name, with the batch in front, a decay of -1 and no bias."""
    raise NotImplementedError


@gated_delta_rule.register_fake  # type: ignore[untyped-decorator]
def _(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, steps: torch.Tensor, rates: torch.Tensor
) -> torch.Tensor:
    return torch.empty_like(v, memory_format=torch.contiguous_format)


def inverse_softplus(x: torch.Tensor) -> torch.Tensor:
    """What gives positive numbers by ``log(1 + exp(.))``, which our operators begin with."""
    return x + torch.log(1.0 - torch.exp(-x))
