"""Operators whose result for a token depends on a state that the tokens before it have left.

Over one whole sequence the state begins as zeros. In pages there is one *slot of state* for each page of
``page_size`` positions: what the state was behind the last of the page's positions that is computed. A chunk
of a sequence begins with the slot of the page that holds the position before its first, and writes the slot
of every page that it fills or ends in. So a page says all there is to know of the tokens up to its end, as it
does with keys and values: it can be shared with sequences that begin alike, copied, given up and computed
again. The batch is described as in :mod:`.cache`.
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


# --- causal convolution


def _infer_conv(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    x, weight, *bias = types
    require(
        x.rank == weight.rank == 2,
        f"a convolution takes [tokens, channels] and [taps, channels], not {x}, {weight}",
    )
    taps, channels = (whole(dim, "a convolution's dimension") for dim in weight.shape)
    require(taps > 1, f"a convolution needs at least two taps, not {taps}")
    require(x.shape[1] == channels, f"{weight} is not for the channels of {x}")
    require(
        all(t.element is ScalarType.FLOAT32 for t in types),
        f"convolutions are over float32, not {x}, {weight}",
    )
    expected = TensorType((channels,), ScalarType.FLOAT32)
    require(all(b == expected for b in bias), f"a bias must be {expected}, not {', '.join(map(str, bias))}")
    return (x,)


def _convolve(before: FloatArray, x: FloatArray, weights: Sequence[FloatArray]) -> FloatArray:
    """The convolution of rows ``x`` behind the rows ``before``, one fewer than there are taps."""
    weight, *bias = weights
    rows = np.concatenate([before, x])
    result = np.zeros_like(x)
    for tap, row in enumerate(weight):
        result += rows[tap : tap + len(x)] * row
    return result + bias[0] if bias else result


@operator("causal_conv", _infer_conv, operands=(2, 3))
def _causal_conv(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Convolve each channel of ``[tokens, channels]`` with its own ``[taps]`` over the tokens up to its own.

    The last tap is the token's own; before the first token there are zeros. The weight is ``[taps,
    channels]``, and a bias ``[channels]`` may follow it.
    """
    x, *weights = map(as_float32, operands)
    return (_convolve(np.zeros((len(weights[0]) - 1, x.shape[1]), np.float32), x, weights),)


def _infer_paged_conv(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    slots, x, weight, *rest = types
    result = _infer_conv((x, weight, *rest[3:]), attributes)
    taps, channels = (whole(dim, "a convolution's dimension") for dim in weight.shape)
    check_slots(slots, taps - 1, channels)
    check_batch(rest[:3], attributes)
    return slots, *result


@operator("paged_conv", _infer_paged_conv, operands=(6, 7), page_size=int)
def _paged_conv(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The convolution of each sequence's newest tokens; a slot is the last rows ``[taps - 1, channels]``."""
    slots, x, weight, *rest = operands
    slots, x, weights = as_float32(slots), as_float32(x), [as_float32(w) for w in (weight, *rest[3:])]
    written, result = slots.copy(), np.zeros_like(x)
    for part in parts_of(rest[:3], cast(int, attributes["page_size"])):
        before = np.zeros(slots.shape[1:], np.float32) if part.source is None else slots[part.source]
        rows = np.concatenate([before, x[part.rows]])
        result[part.rows] = _convolve(before, x[part.rows], weights)
        for page, count in part.written:
            written[page] = rows[count : count + len(before)]
    return written, result


# --- selective scan


def _infer_scan(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    x, steps, b, c, *by_head = types
    require(
        x.rank == b.rank == 3,
        f"a scan takes [tokens, heads, head_dim] and [tokens, groups, state], not {x}, {b}",
    )
    heads, groups = whole(x.shape[1], "heads"), whole(b.shape[1], "groups")
    require(heads % groups == 0, f"{groups} groups do not divide {heads} heads")
    fits = b == c and b.shape[0] == x.shape[0] and steps.shape == x.shape[:2]
    require(fits, f"{x}, {steps}, {b} and {c} do not fit")
    require(all(t.element is ScalarType.FLOAT32 for t in types), f"scans are over float32, not {x}")
    require(
        all(t.shape == (heads,) for t in by_head),
        f"decay, skip and bias must be one for each of {heads} heads",
    )
    return (x,)


def _scan(
    state: FloatArray, operands: Sequence[FloatArray], ends: Sequence[int] = ()
) -> tuple[FloatArray, list[FloatArray]]:
    """Results from ``state`` ``[heads, state, head_dim]`` on, and the states after so many tokens each."""
    x, steps, b, c, decay, skip, bias = operands
    group = x.shape[1] // b.shape[1]
    b, c = np.repeat(b, group, axis=1), np.repeat(c, group, axis=1)
    times = softplus(steps + bias)
    kept = np.exp(times * decay)
    result, states = np.empty_like(x), []
    for token in range(len(x)):
        added = b[token, :, :, None] * (times[token, :, None] * x[token])[:, None]
        state = kept[token, :, None, None] * state + added
        result[token] = (state * c[token, :, :, None]).sum(axis=1)
        if token + 1 in ends:
            states.append(state)
    return result + skip[:, None] * x, states


@operator("selective_scan", _infer_scan, operands=7)
def _selective_scan(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The recurrence of Mamba-2 (Dao and Gu, 2024), head by head.

    Operands are ``x`` ``[tokens, heads, head_dim]``, ``steps`` ``[tokens, heads]``, ``b`` and ``c``
    ``[tokens, groups, state]`` (neighbours share a group), and one number a head for ``decay``, ``skip`` and
    the ``bias`` of the steps. With ``t = softplus(steps + bias)`` the state ``h``, zeros at first, becomes
    ``exp(t * decay) * h + b * (t * x)``, and the result is ``c * h + skip * x``.
    """
    arrays = [as_float32(operand) for operand in operands]
    x, b = arrays[0], arrays[2]
    return (_scan(np.zeros((x.shape[1], b.shape[2], x.shape[2]), np.float32), arrays)[0],)


def _infer_paged_scan(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    slots, *scanned = types[:8]
    result = _infer_scan(scanned, attributes)
    _, heads, head_dim = (dim if isinstance(dim, int) else 0 for dim in scanned[0].shape)
    check_slots(slots, heads, whole(scanned[2].shape[2], "the state"), head_dim)
    check_batch(types[8:], attributes)
    return slots, *result


@operator("paged_scan", _infer_paged_scan, operands=11, page_size=int)
def _paged_scan(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The scan of each sequence's newest tokens; a slot is a state ``[heads, state, head_dim]``."""
    slots, *arrays = map(as_float32, operands[:8])
    written, result = slots.copy(), np.zeros_like(arrays[0])
    for part in parts_of(operands[8:], cast(int, attributes["page_size"])):
        state = np.zeros(slots.shape[1:], np.float32) if part.source is None else slots[part.source]
        own = [*(array[part.rows] for array in arrays[:4]), *arrays[4:]]
        result[part.rows], states = _scan(state, own, [count for _, count in part.written])
        for (page, _), state in zip(part.written, states, strict=True):
            written[page] = state
    return written, result
