"""Multi-head latent attention (DeepSeek-AI, 2024) with its projections absorbed.

Keys and values of all heads are linear functions of one short row a token, its latents. So scores can be
taken against the latents themselves, by queries that went through the keys' function backwards, and the
values' function can wait until latents are mixed: what is kept of a token is one row, whatever the heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from ..operator import Array, Attribute, operator
from ..types import ScalarType, TensorType
from ._infer import as_float32, plain, require, whole
from .cache import attend_pages, can_be_cached, require_batch, write_slots
from .fused import attend
from .linear import product, require_rows

__all__: list[str] = []


def _infer_head_linear(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    x, weight = types
    fits = x.rank == weight.rank == 3 and (x.shape[1], x.shape[2]) == (weight.shape[0], weight.shape[2])
    require(fits, f"head_linear takes [tokens, heads, n] and [heads, m, n], not {x} and {weight}")
    require_rows(x, weight)
    return (TensorType((*x.shape[:2], weight.shape[1]), ScalarType.FLOAT32),)


@operator("head_linear", _infer_head_linear, operands=2)
def _head_linear(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Each head times a matrix of its own: ``x[:, h] @ weight[h].T``, as ``linear`` multiplies."""
    x, weight = operands
    heads = [product(x[:, h], weight[h]) for h in range(weight.shape[0])]
    return (np.stack(heads, axis=1),)


def _require_values(q: TensorType, width: TensorType, attributes: Mapping[str, Attribute]) -> TensorType:
    """The result's type, of ``value_dim`` elements a head; ``width`` is of rows that heads of ``q`` match."""
    value_dim = cast(int, attributes["value_dim"])
    require(
        q.rank == 3 and q.element is ScalarType.FLOAT32, f"queries are float32[tokens, heads, n], not {q}"
    )
    require(q.shape[2] == width.shape[-1], f"{q} and {width} do not fit")
    require(0 < value_dim <= whole(q.shape[2], "head_dim"), f"{width} has no {value_dim} values")
    return q.with_shape(*q.shape[:2], value_dim)


def _infer_attention(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    q, latents = types
    require(latents.rank == 2 and latents.shape[0] == q.shape[0], f"{q} and {latents} do not fit")
    return (_require_values(q, latents, attributes),)


@operator("latent_attention", _infer_attention, operands=2, scale=float, value_dim=int)
def _attention(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Causal attention over one sequence whose only key of a token is its row of latents ``[tokens, n]``.

    The value is the first ``value_dim`` elements of that row; scores are multiplied by ``scale``.
    """
    q, latents = map(as_float32, operands)
    keys = latents[:, None]
    values = keys[..., : cast(int, attributes["value_dim"])]
    return (attend(q, keys, values, attributes=_plain_attention(attributes)),)


def _plain_attention(attributes: Mapping[str, Attribute]) -> Mapping[str, Attribute]:
    return {"scale": attributes["scale"], "soft_cap": 0.0, "window": 0}


def _require_cache(cache: TensorType) -> None:
    fits = cache.rank == 4 and cache.shape[1] == 1 and can_be_cached(cache)
    require(
        fits,
        f"latents are kept as floats, or whole numbers with scales, in [pages, 1, page_size, n], not {cache}",
    )


def _infer_append(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    cache, latents, slots = types
    _require_cache(cache)
    require(latents.rank == 2 and cache.shape[3] == latents.shape[1], f"{cache} does not take {latents}")
    expected = TensorType((latents.shape[0],), ScalarType.INT32)
    require(slots == expected, f"slots must be {expected}, not {slots}")
    return (cache,)


@operator("append_latents", _infer_append, operands=3)
def _append(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Write each token's latents ``[tokens, n]`` into its slot of pages ``[pages, 1, page_size, n]``."""
    cache, latents, slots = operands
    return (write_slots(cache, plain(latents)[:, None], slots),)


def _infer_paged(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    q, cache, *batch = types
    _require_cache(cache)
    require_batch(*batch)
    return (_require_values(q, cache, attributes),)


@operator("paged_latent_attention", _infer_paged, operands=5, scale=float, value_dim=int)
def _paged_attention(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """``latent_attention`` of each sequence's newest tokens over all of its pages."""
    q, cache = map(as_float32, operands[:2])
    values = cache[..., : cast(int, attributes["value_dim"])]
    return (attend_pages(q, cache, values, operands[2:], attributes=_plain_attention(attributes)),)
