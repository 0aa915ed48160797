"""The operators that stand for attention and masks in a trace, and how transformers calls them.

``transformers`` lets users register an attention of their own, and how its mask is made. Ours does not
compute: it leaves one node in the trace, with all that the attention follows from as arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from transformers import masking_utils
from transformers.integrations.moe import ExpertsInterface
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from ...ir.errors import CompileError
from .experts import mix
from .lengths import at_length
from .windows import FAR, FARTHEST, window_of

__all__ = ["IMPLEMENTATION", "one_sequence"]

IMPLEMENTATION = "ingot"
"""What ``attn_implementation`` and ``experts_implementation`` are while a model is traced."""


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
    return all(at_length(pair[0], number) == at_length(pair[1], number) for number in (2, FARTHEST.get() + 1))


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
        window = window_of(mask_function)
    except CompileError as error:
        problem = str(error)
    mask: torch.Tensor = _causal_mask(torch.arange(q_length, device=device), batch_size, window, problem)
    return mask


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
    farthest = FARTHEST.set(FAR if most_tokens is None else most_tokens - 1)
    masks["eager"] = _make_mask
    try:
        yield
    finally:
        FARTHEST.reset(farthest)
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
ExpertsInterface.register(IMPLEMENTATION, mix)
