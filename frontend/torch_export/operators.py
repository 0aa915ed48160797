"""The operators that stand for attention, masks and experts in a trace, and how transformers calls them.

``transformers`` lets users register an attention of their own, and how its mask is made. Ours does not
compute: it leaves one node in the trace, with all that the attention follows from as arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from transformers import masking_utils
from transformers.integrations.moe import ExpertsInterface, _default_apply_gate
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from ...ir.errors import CompileError
from .lengths import at_length

__all__ = ["IMPLEMENTATION", "expert_linear", "one_sequence", "weighted_sum"]

IMPLEMENTATION = "ingot"
"""What ``attn_implementation`` and ``experts_implementation`` are while a model is traced."""

_PROBED_KEYS = 4
"""Keys on either side of the edge of a window that a mask is asked about."""

_FAR = 1 << 20
"""A position that no window reaches back from to the start."""

_FARTHEST: ContextVar[int] = ContextVar("_FARTHEST", default=_FAR)
"""The last position of the model that is traced, as far as its masks are asked about."""


@torch.library.custom_op("ingot::attention", mutates_args=())  # type: ignore[untyped-decorator]
def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    sinks: torch.Tensor | None,
    scale: float,
    soft_cap: float,
    window: int,
) -> torch.Tensor:
    """``[batch, heads, tokens, head_dim]`` each to ``[batch, tokens, heads, head_dim]``; never computed."""
    raise NotImplementedError


@_attention.register_fake  # type: ignore[untyped-decorator]
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    sinks: torch.Tensor | None,
    scale: float,
    soft_cap: float,
    window: int,
) -> torch.Tensor:
    return q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3])


@torch.library.custom_op("ingot::causal_mask", mutates_args=())  # type: ignore[untyped-decorator]
def _causal_mask(rows: torch.Tensor, batch: int, window: int, problem: str) -> torch.Tensor:
    """0 where a token sees another, else -inf, float32 ``[batch, 1, tokens, tokens]``; never computed.

    ``problem`` says why the mask is no causal one, if it is none: models make masks that they do not use.
    """
    raise NotImplementedError


@_causal_mask.register_fake  # type: ignore[untyped-decorator]
def _(rows: torch.Tensor, batch: int, window: int, problem: str) -> torch.Tensor:
    return rows.new_empty((batch, 1, rows.shape[0], rows.shape[0]), dtype=torch.float32)


_UNDERSTOOD = frozenset(
    {"position_ids", "use_cache", "output_router_logits", "output_attentions", "output_hidden_states"}
    | {"cache_position", "softcap", "sliding_window", "s_aux", "return_dict", "layer_idx", "is_training"}
    | {"logits_to_keep", "deterministic", "indices", "position_embeddings", "cu_seq_lens_q", "cu_seq_lens_k"}
)
"""What is handed to an attention besides its tensors and that does not change what it computes."""


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What models call in place of their attention."""
    unknown = sorted(
        key for key, option in options.items() if key not in _UNDERSTOOD and _changes_attention(option)
    )
    if unknown:
        raise CompileError(f"attention with {', '.join(unknown)} ({type(module).__name__}) is not supported")
    indices = options.get("indices")
    if indices is not None and not _are_all(indices.shape[-1], key.shape[2]):
        raise CompileError(f"attention to some chosen tokens ({type(module).__name__}) is not supported")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    if attention_mask is None and not is_causal:
        raise CompileError(f"attention that is not causal ({type(module).__name__}) is not supported")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = options.get("sliding_window") if attention_mask is None else None
    sinks, soft_cap = options.get("s_aux"), options.get("softcap")
    mixed = _attention(
        query, key, value, attention_mask, sinks, float(scale), float(soft_cap or 0.0), int(window or 0)
    )
    return mixed, None


def _are_all(chosen: Any, tokens: Any) -> bool:
    """Whether as many are chosen as there are tokens, for any number of them that the model is right for."""
    if not isinstance(chosen, torch.SymInt) or not isinstance(tokens, torch.SymInt):
        return False
    pair = chosen.node.expr, tokens.node.expr
    return all(
        at_length(pair[0], number) == at_length(pair[1], number) for number in (2, _FARTHEST.get() + 1)
    )


def _changes_attention(option: object) -> bool:
    return option is not None and option is not False


def _make_mask(
    batch_size: int,
    q_length: Any,
    kv_length: Any,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = masking_utils.causal_mask_function,
    device: torch.device | str | None = None,
    **options: Any,
) -> torch.Tensor:
    """What models call to make a mask."""
    window, problem = 0, ""
    try:
        window = _window(mask_function)
    except CompileError as error:
        problem = str(error)
    mask: torch.Tensor = _causal_mask(torch.arange(q_length, device=device), batch_size, window, problem)
    return mask


def _window(mask_function: Callable[..., Any]) -> int:
    """The window of a causal mask, found by asking it; 0 where it sees all.

    Raises :class:`CompileError` where the mask is neither causal nor a window.
    """
    with unset_fake_temporarily(), disable_proxy_modes_tracing():
        zero = torch.tensor(0)

        def sees(query: int, key: int) -> bool:
            return bool(mask_function(zero, zero, torch.tensor(query), torch.tensor(key)))

        try:
            far = _FARTHEST.get()
            window = _first_unseen(sees, far)
            queries = {0, 1, 5, _PROBED_KEYS + 20, max(window - 1, 0), window, window + 1, far}
            agrees = all(
                sees(query, key) == (key <= query and (not window or query - key < window))
                for query in queries
                if query <= far
                for key in _probed(query, window)
            )
        except (RuntimeError, IndexError, TypeError) as error:
            name = getattr(mask_function, "__qualname__", "its function")
            raise CompileError(f"the attention's mask ({name}) depends on more than positions") from error
    if not agrees:
        raise CompileError("the attention's mask is neither causal nor a sliding window, which is what runs")
    return window


def _first_unseen(sees: Callable[[int, int], bool], last: int) -> int:
    """How far back the query ``last`` sees, by bisection; 0 where it sees the first key."""
    if sees(last, 0):
        return 0
    near, far = 0, last  # distances that are seen and not seen
    while far - near > 1:
        middle = (near + far) // 2
        near, far = (middle, far) if sees(last, last - middle) else (near, middle)
    return far


def _probed(query: int, window: int) -> list[int]:
    """Keys at the start, about the query, and about the edge of its window."""
    edges = (0, query, query - window)
    near = range(-_PROBED_KEYS, _PROBED_KEYS + 1)
    return sorted({edge + step for edge in edges for step in near if edge + step >= 0})


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


def _mix(
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


@contextmanager
def one_sequence(most_tokens: int | None) -> Iterator[None]:
    """Let models take the whole input for one sequence, in place of looking for several packed into it.

    Their masks need to be right for ``most_tokens``, if there is a limit. Models whose attention is their own
    get our mask as well: it is asked for in the same way.
    """
    packed = masking_utils.find_packed_sequence_indices
    masks = AttentionMaskInterface._global_mapping
    eager = masks["eager"]
    chunked = masking_utils.chunked_causal_mask_function
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    blocks = masking_utils.blockwise_overlay
    masking_utils.blockwise_overlay = lambda block_sequence_ids: _no_block
    masking_utils.chunked_causal_mask_function = lambda size, left_padding: chunked(size, _no_padding())
    farthest = _FARTHEST.set(_FAR if most_tokens is None else most_tokens - 1)
    masks["eager"] = _make_mask
    try:
        yield
    finally:
        _FARTHEST.reset(farthest)
        masking_utils.chunked_causal_mask_function = chunked
        masking_utils.blockwise_overlay = blocks
        masking_utils.find_packed_sequence_indices = packed
        masks["eager"] = eager


def _no_block(*_: Any) -> torch.Tensor:
    """Blocks within which tokens see each other are of images and the like; text has none."""
    return torch.tensor(False)


def _no_padding() -> torch.Tensor:
    with unset_fake_temporarily(), disable_proxy_modes_tracing():
        return torch.zeros(1, dtype=torch.int64)


AttentionInterface.register(IMPLEMENTATION, _attend)
AttentionMaskInterface.register(IMPLEMENTATION, _make_mask)
ExpertsInterface.register(IMPLEMENTATION, _mix)
