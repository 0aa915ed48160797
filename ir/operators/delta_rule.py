"""The gated delta rule, an attention without a cache of keys: over a whole sequence, and over slots of state.

What the slots are, and how a batch uses them, is said in :mod:`.recurrent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from ..operator import Array, Attribute, operator
from ..types import ScalarType, TensorType
from ._infer import FloatArray, as_float32, require, softplus, whole
from ._slots import check_batch, check_slots, parts_of

__all__: list[str] = []


def _infer(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    q, k, v, steps, rates, *by_head = types
    require(
        k.rank == v.rank == 3,
        f"a delta rule takes [tokens, groups, key_dim] and [tokens, heads, value_dim], not {k}, {v}",
    )
    groups, heads = whole(k.shape[1], "groups"), whole(v.shape[1], "heads")
    require(heads % groups == 0, f"{groups} groups do not divide {heads} heads")
    fits = q == k and k.shape[0] == v.shape[0] and steps.shape == rates.shape == v.shape[:2]
    require(fits, f"{q}, {k}, {v}, {steps} and {rates} do not fit")
    require(
        all(t.element is ScalarType.FLOAT32 for t in types),
        f"delta rules are over float32, not {q}, {k}, {v}",
    )
    require(
        all(t.shape == (heads,) for t in by_head), f"decay and bias must be one for each of {heads} heads"
    )
    return (v,)


def _apply(
    state: FloatArray, operands: Sequence[FloatArray], ends: Sequence[int] = ()
) -> tuple[FloatArray, list[FloatArray]]:
    """Results from ``state`` ``[heads, key_dim, value_dim]`` on, and the states after so many tokens each."""
    q, k, v, steps, rates, decay, bias = operands
    group = v.shape[1] // k.shape[1]
    q, k = np.repeat(q, group, axis=1), np.repeat(k, group, axis=1)
    kept = np.exp(softplus(steps + bias) * decay)
    result, states = np.empty_like(v), []
    for token in range(len(v)):
        state = kept[token, :, None, None] * state
        recalled = (state * k[token, :, :, None]).sum(axis=1)
        correction = rates[token, :, None] * (v[token] - recalled)
        state = state + k[token, :, :, None] * correction[:, None]
        result[token] = (state * q[token, :, :, None]).sum(axis=1)
        if token + 1 in ends:
            states.append(state)
    return result, states


@operator("gated_delta_rule", _infer, operands=7)
def _gated_delta_rule(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The recurrence of gated delta networks (Yang, Kautz and Hatamizadeh, 2024), head by head.

    Operands are ``q`` and ``k`` ``[tokens, groups, key_dim]`` (neighbouring heads share a group), ``v``
    ``[tokens, heads, value_dim]``, ``steps`` and ``rates`` ``[tokens, heads]``, and one number a head for
    ``decay`` and the ``bias`` of the steps. The state ``h`` ``[key_dim, value_dim]``, zeros at first, is what
    is recalled by a key. It fades, ``h = exp(softplus(steps + bias) * decay) * h``, and is then corrected
    towards the token's value, ``h += k * rates * (v - k h)``; the result is ``q h``.
    """
    arrays = [as_float32(operand) for operand in operands]
    _, k, v, *_ = arrays
    return (_apply(np.zeros((v.shape[1], k.shape[2], v.shape[2]), np.float32), arrays)[0],)


def _infer_paged(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    slots, *own = types[:8]
    result = _infer(own, attributes)
    _, k, v, *_ = own
    _, heads, value_dim = (dim if isinstance(dim, int) else 0 for dim in v.shape)
    check_slots(slots, heads, whole(k.shape[2], "the size of keys"), value_dim)
    check_batch(types[8:], attributes)
    return slots, *result


@operator("paged_delta", _infer_paged, operands=11, page_size=int)
def _paged_delta(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The rule over each sequence's newest tokens; a slot is a state ``[heads, key_dim, value_dim]``."""
    slots, *arrays = map(as_float32, operands[:8])
    written, result = slots.copy(), np.zeros_like(arrays[2])
    for part in parts_of(operands[8:], cast(int, attributes["page_size"])):
        state = np.zeros(slots.shape[1:], np.float32) if part.source is None else slots[part.source]
        own = [*(array[part.rows] for array in arrays[:5]), *arrays[5:]]
        result[part.rows], states = _apply(state, own, [count for _, count in part.written])
        for (page, _), state in zip(part.written, states, strict=True):
            written[page] = state
    return written, result
