"""Functions of transformers' models that run over the tokens one by one, and what stands for them in a trace.

Models with a recurrent state call them by the same names, so that kernels can be put in their places. While
a model is traced ours are: they leave one node with all that the recurrence follows from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ...ir.errors import CompileError
from .layers import RECURRENT_METHODS, refusal
from .mixtures import METHODS
from .scans import gated_delta_rule, inverse_softplus, selective_scan

__all__ = ["standing_in"]


def _scan_by_head(
    hidden_states: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,  # noqa: N803  (names are transformers')
    B: torch.Tensor,  # noqa: N803
    C: torch.Tensor,  # noqa: N803
    chunk_size: int,
    D: torch.Tensor | None = None,  # noqa: N803
    z: torch.Tensor | None = None,
    dt_bias: torch.Tensor | None = None,
    initial_states: torch.Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    **_: Any,
) -> Any:
    """Mamba-2's scan, ``mamba2_chunk_scan``: one decay for each head."""
    if z is not None:
        raise CompileError("a scan with a gate of its own is not supported")
    _refuse_states(initial_states, return_final_states)
    if tuple(dt_limit) != (0.0, float("inf")) or not dt_softplus:
        dt = dt if dt_bias is None else dt + dt_bias
        dt = functional.softplus(dt) if dt_softplus else dt
        dt, dt_bias = inverse_softplus(torch.clamp(dt, *_finite(dt_limit))), None
    return selective_scan(hidden_states, dt, B, C, A, D, dt_bias)


def _scan_by_channel(
    hidden_states: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,  # noqa: N803
    B: torch.Tensor,  # noqa: N803
    C: torch.Tensor,  # noqa: N803
    D: torch.Tensor | None = None,  # noqa: N803
    z: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **_: Any,
) -> Any:
    """Mamba's scan, ``mamba_selective_scan``: one decay for each channel and element of the state.

    Each such pair is a head of one element whose state is one number; what a channel gives is their sum.
    """
    if not delta_softplus:
        raise CompileError("a scan whose steps are no softplus is not supported")
    _refuse_states(None, return_last_state)
    channels, state = A.shape
    heads = state * channels  # a head's number is element * channels + channel: neighbours share B and C
    batch, _, tokens = hidden_states.shape

    def for_each_element(x: torch.Tensor) -> torch.Tensor:
        turned = x.transpose(1, 2)[:, :, None, :]
        return turned.expand(-1, -1, state, -1).reshape(batch, tokens, heads)

    bias = None if delta_bias is None else delta_bias[None].expand(state, -1).reshape(heads)
    scanned = selective_scan(
        for_each_element(hidden_states)[..., None],
        for_each_element(dt),
        B.transpose(1, 2)[..., None],
        C.transpose(1, 2)[..., None],
        A.transpose(0, 1).reshape(heads),
        None,
        bias,
    )
    result = scanned.reshape(batch, tokens, state, channels).sum(2)
    if D is not None:
        result = result + hidden_states.transpose(1, 2) * D
    result = result.transpose(1, 2)
    return result if z is None else result * functional.silu(z)


def _delta_rule(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    scale: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """``torch_chunk_gated_delta_rule``."""
    _refuse_states(initial_state, output_final_state)
    if use_qk_l2norm_in_kernel:
        query, key = (x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6) for x in (query, key))
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    return gated_delta_rule(query, key, value, inverse_softplus(-g), beta), None


def _finite(limit: tuple[float, float]) -> tuple[float | None, float | None]:
    low, high = limit
    return low, high if high != float("inf") else None


def _masks(
    slen: Any, lengths: torch.Tensor, causal: bool, padding_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """XLM's: which tokens are there, and which each sees. Its own asks for lengths without padding."""
    if not causal or padding_mask is not None:
        raise CompileError("attention that is not causal is not supported")
    batch = lengths.shape[0]
    places = torch.arange(slen)
    seen = (places[None, None, :] <= places[None, :, None]).expand(batch, -1, -1)
    return torch.ones(batch, slen, dtype=torch.bool), seen


def _refuse_states(initial: torch.Tensor | None, asked_for: bool) -> None:
    if initial is not None or asked_for:
        raise CompileError("a recurrence that begins with a state, or whose state is asked for, is no layer")


_STAND_INS: dict[str, Callable[..., Any]] = {
    "chunk_kimi_delta_attention": refusal("a delta rule in which each element of the keys fades by its own"),
    "rwkv_linear_attention": refusal("RWKV's recurrence, whose state holds its own largest exponent,"),
    "mamba2_chunk_scan": _scan_by_head,
    "mamba_selective_scan": _scan_by_channel,
    "torch_chunk_gated_delta_rule": _delta_rule,
    "get_masks": _masks,
}
"""By the name that transformers' models know a function by."""


@contextmanager
def standing_in(model: PreTrainedModel) -> Iterator[None]:
    """Put ours in the places of the functions and methods that ``model``'s own modules call."""
    classes = {type(module) for module in model.modules()}
    sources = {sys.modules[kind.__module__] for kind in classes}
    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (source, name, function)
        for source in sources
        for name, function in _STAND_INS.items()
        if hasattr(source, name)
    ]
    places += [
        (kind, method, function)
        for kind in classes
        for (name, method), function in {**METHODS, **RECURRENT_METHODS}.items()
        if kind.__name__ == name
    ]
    kept = [getattr(place, name) for place, name, _ in places]
    for place, name, function in places:
        setattr(place, name, function)
    try:
        yield
    finally:
        for (place, name, _), before in zip(places, kept, strict=True):
            setattr(place, name, before)
