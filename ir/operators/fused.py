"""Operators that passes fuse from plain ones; each is what one kernel computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import cast

import numpy as np
import numpy.typing as npt

from ..operator import Array, Attribute, operator
from ..types import Dim, ScalarType, TensorType
from ._infer import FloatArray, as_float32, plain, require, whole
from .elementwise import ACTIVATIONS
from .reduction import softmax

__all__ = ["attend", "require_sinks", "require_slopes"]


def _infer_rms_norm(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    *rows, weight = types
    expected = TensorType((rows[0].shape[-1],), ScalarType.FLOAT32)
    require(weight == expected, f"the norm's weight must be {expected}, not {weight}")
    require(all(row == rows[0] for row in rows), f"residual and rows differ: {', '.join(map(str, rows))}")
    require(rows[0].element is ScalarType.FLOAT32, f"norms are over float32, not {rows[0]}")
    return (rows[0],) * len(rows)


def _normed(x: FloatArray, weight: FloatArray, epsilon: float) -> FloatArray:
    mean_square = np.square(x).mean(axis=-1, keepdims=True)
    result: FloatArray = x * np.reciprocal(np.sqrt(mean_square + np.float32(epsilon))) * weight
    return result


@operator("rms_norm", _infer_rms_norm, operands=2, epsilon=float)
def _rms_norm(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Root mean square norm over the last dimension (Zhang and Sennrich, 2019)."""
    x, weight = map(as_float32, operands)
    return (_normed(x, weight, cast(float, attributes["epsilon"])),)


@operator("add_rms_norm", _infer_rms_norm, operands=3, epsilon=float)
def _add_rms_norm(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The sum of the two first operands, and its norm."""
    x, residual, weight = map(as_float32, operands)
    total = x + residual
    return total, _normed(total, weight, cast(float, attributes["epsilon"]))


def _infer_layer_norm(types: Sequence[TensorType], num_rows: int) -> tuple[TensorType, ...]:
    rows, weights = types[:num_rows], types[num_rows:]
    for weight in weights:
        _infer_rms_norm((*rows, weight), {})
    return (rows[0],) * num_rows


def _layer_normed(x: FloatArray, weights: Sequence[FloatArray], epsilon: float) -> FloatArray:
    centred = x - x.mean(axis=-1, keepdims=True)
    normed = _normed(centred, weights[0], epsilon)
    return normed + weights[1] if len(weights) == 2 else normed


@operator("layer_norm", lambda types, _: _infer_layer_norm(types, 1), operands=(2, 3), epsilon=float)
def _layer_norm(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Norm of the distances from the mean over the last dimension, a bias added or not (Ba et al., 2016)."""
    x, *weights = map(as_float32, operands)
    return (_layer_normed(x, weights, cast(float, attributes["epsilon"])),)


@operator("add_layer_norm", lambda types, _: _infer_layer_norm(types, 2), operands=(3, 4), epsilon=float)
def _add_layer_norm(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The sum of the two first operands, and its layer norm."""
    x, residual, *weights = map(as_float32, operands)
    total = x + residual
    return total, _layer_normed(total, weights, cast(float, attributes["epsilon"]))


def _infer_rope(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    x, cosines, sines = types
    require(x.rank == 3, f"rope takes [tokens, heads, head_dim], not {x}")
    most = whole(x.shape[2], "head_dim") // 2
    pairs = cosines.shape[-1]
    fits = isinstance(pairs, int) and pairs <= most
    expected = TensorType((x.shape[0], pairs if fits else most), ScalarType.FLOAT32)
    require(cosines == sines == expected, f"cosines and sines must be {expected}, not {cosines} and {sines}")
    return (x,)


@operator("rope", _infer_rope, operands=3, interleaved=bool)
def _rope(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Rotary embedding (Su et al., 2021) of the first 2n elements of each head, n angles for each token.

    Element i turns with element i + n, or where they are ``interleaved`` 2i with 2i + 1; the rest stays.
    """
    x, cosines, sines = map(as_float32, operands)
    cosines, sines = cosines[:, None], sines[:, None]
    width = 2 * cosines.shape[-1]
    if attributes["interleaved"]:
        first, second = x[..., 0:width:2], x[..., 1:width:2]
    else:
        first, second = x[..., : width // 2], x[..., width // 2 : width]
    turned = [first * cosines - second * sines, second * cosines + first * sines]
    if attributes["interleaved"]:
        turned = [np.stack(turned, axis=-1).reshape(*x.shape[:-1], width)]
    return (np.concatenate([*turned, x[..., width:]], axis=-1),)


def _infer_attention(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    q, k, v, *sinks = types
    require(q.rank == k.rank == v.rank == 3, f"attention takes [tokens, heads, head_dim], not {q}, {k}, {v}")
    heads, kv_heads = whole(q.shape[1], "heads"), whole(k.shape[1], "KV heads")
    fits = v == k.with_shape(*k.shape[:2], v.shape[2])
    require(fits and q.shape[0] == k.shape[0] and q.shape[2] == k.shape[2], f"{q}, {k} and {v} do not fit")
    require(heads % kv_heads == 0, f"{kv_heads} KV heads do not divide {heads} heads")
    require_sinks(sinks, heads)
    require_slopes(attributes, heads)
    return (q.with_shape(*q.shape[:2], v.shape[2]),)


def require_sinks(sinks: Sequence[TensorType], heads: Dim) -> None:
    """Raise unless ``sinks`` are none, or one float32 for each head."""
    expected = TensorType((heads,), ScalarType.FLOAT32)
    require(
        all(sink == expected for sink in sinks), f"sinks must be {expected}, not {', '.join(map(str, sinks))}"
    )


def require_slopes(attributes: Mapping[str, Attribute], heads: Dim) -> None:
    """Raise unless the attribute ``slopes`` is left away, or one float32 for each head."""
    if "slopes" in attributes:
        slopes = cast(npt.NDArray[np.generic], attributes["slopes"])
        fits = slopes.dtype == np.float32 and slopes.shape == (heads,)
        require(fits, f"slopes must be float32[{heads}], not {slopes.dtype}{list(slopes.shape)}")


@operator(
    "attention",
    _infer_attention,
    operands=(3, 4),
    scale=float,
    soft_cap=float,
    window=int,
    slopes=(np.ndarray, NoneType),
)
def _attention(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Causal attention over one sequence; KV head h serves the heads h * group to (h + 1) * group - 1.

    The attributes are those of :func:`attend`; a fourth operand is its ``sinks``.
    """
    return (attend(*map(as_float32, operands), attributes=attributes),)


def attend(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    sinks: FloatArray | None = None,
    *,
    attributes: Mapping[str, Attribute],
) -> FloatArray:
    """Attention of the last ``len(q)`` positions of a sequence over all ``len(k)`` of them.

    ``q`` is ``[queries, heads, head_dim]``, ``k`` ``[context, kv_heads, head_dim]`` and ``v`` ``[context,
    kv_heads, value_dim]``. Scores are multiplied by ``scale`` and kept within ``soft_cap``, which 0 does not
    (see ``soft_cap``); ``window`` counts the query's own position, 0 is none. ``slopes`` ``[heads]``, where
    there are any, times how far a key lies before the query are taken off its score (ALiBi: Press et al.,
    2022). ``sinks`` ``[heads]`` are a logit for each head that takes its part of the weight and adds nothing
    (Xiao et al., 2023). The result is ``[queries, heads, value_dim]``.
    """
    scale, soft_cap = (np.float32(cast(float, attributes[key])) for key in ("scale", "soft_cap"))
    window = cast(int, attributes["window"])
    group = q.shape[1] // k.shape[1]
    keys, values = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.matmul(q.transpose(1, 0, 2), keys.transpose(1, 2, 0)) * scale
    if soft_cap:
        scores = np.tanh(scores / soft_cap) * soft_cap
    distance = np.arange(len(k) - len(q), len(k))[:, None] - np.arange(len(k))[None, :]
    if "slopes" in attributes:
        slopes = cast(FloatArray, attributes["slopes"])
        scores = scores - slopes[:, None, None] * distance.astype(np.float32)
    seen = (distance >= 0) & ((distance < window) if window else True)
    scores = np.where(seen, scores, np.float32(-np.inf))
    weights = softmax(scores, None if sinks is None else sinks[:, None, None])
    result: FloatArray = np.matmul(weights, values.transpose(1, 0, 2)).transpose(1, 0, 2)
    return result


def _infer_gated(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    (x,) = types
    size = whole(x.shape[-1], "the gated dimension")
    require(
        size % 2 == 0 and x.element is ScalarType.FLOAT32, f"gate and up are halves of float32 rows, not {x}"
    )
    half: Dim = size // 2
    return (x.with_shape(*x.shape[:-1], half),)


def _register_gate(activation: str) -> None:
    @operator(f"{activation}_mul", _infer_gated)
    def evaluate(
        operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
    ) -> tuple[Array, ...]:
        """``activation(gate) * up`` of rows that hold gate and up side by side (Shazeer, 2020)."""
        gate, up = np.split(as_float32(plain(operands[0])), 2, axis=-1)
        return (ACTIVATIONS[activation](gate) * up,)


for _activation in ACTIVATIONS:
    _register_gate(_activation)
