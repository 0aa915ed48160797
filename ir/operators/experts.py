"""Mixtures of experts (Shazeer et al., 2017): who takes a token, their products, the sum of what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from ..errors import IRError
from ..operator import Array, Attribute, operator
from ..types import ScalarType, TensorType
from ._infer import FloatArray, as_float32, by_component, plain, require, whole
from .elementwise import sigmoid
from .linear import product, require_rows

__all__ = ["SCORES"]

SCORES = ("softmax", "softmax_of_chosen", "sigmoid", "sparsemixer")
"""What ``route`` can make of its logits; see there."""


def _infer_route(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    logits, *bias = types
    require(
        logits.rank == 2 and logits.element is ScalarType.FLOAT32,
        f"route takes float32 [tokens, experts], not {logits}",
    )
    num_experts = whole(logits.shape[1], "experts")
    chosen, groups, kept, terms = (
        cast(int, attributes[key]) for key in ("experts_per_token", "groups", "kept_groups", "group_terms")
    )
    scores = cast(str, attributes["scores"])
    require(scores in SCORES, f"no kind of scores '{scores}'; there are {', '.join(SCORES)}")
    require(
        groups > 0 and num_experts % groups == 0 and 0 < kept <= groups,
        f"{kept} of {groups} groups cannot be kept of {num_experts} experts",
    )
    require(
        0 < chosen <= kept * (num_experts // groups), f"{chosen} cannot be chosen of {num_experts} experts"
    )
    require(
        terms in (1, 2) and terms <= num_experts // groups,
        f"a group is judged by its best or two, not {terms}",
    )
    grouped = groups > 1 and scores in ("softmax_of_chosen", "sparsemixer")
    require(not grouped, f"experts routed by {scores} are in no groups")
    expected = TensorType((num_experts,), ScalarType.FLOAT32)
    require(all(b == expected for b in bias), f"the bias must be {expected}, not {', '.join(map(str, bias))}")
    require(not bias or scores in ("softmax", "sigmoid"), f"experts routed by {scores} take no bias")
    return (
        TensorType((logits.shape[0], chosen), ScalarType.INT32),
        TensorType((logits.shape[0], chosen), ScalarType.FLOAT32),
    )


@operator(
    "route",
    _infer_route,
    operands=(1, 2),
    experts_per_token=int,
    scores=str,
    groups=int,
    kept_groups=int,
    group_terms=int,
    normalize=bool,
    scale=float,
    jitter=float,
)
def _route(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The ``experts_per_token`` experts of each token, best first, and the weights of their results.

    A score is made of each logit: its ``softmax`` among all, its ``sigmoid``, or the logit itself. A bias, if
    there is one, is for the choice alone (Wang et al., 2024). Of ``groups`` of neighbouring experts those
    ``kept_groups`` stay whose ``group_terms`` best add up to most (DeepSeek-V2 and -V3, 2024). Of equals the
    first is better.

    The weights are the scores, divided by their sum with ``normalize``, times ``scale``. With
    ``softmax_of_chosen`` the scores become their softmax among the chosen, and with ``sparsemixer`` (Liu et
    al., 2024) that of the best that is left among those not much worse, by twice ``jitter`` of what is larger
    of its magnitude and the best.
    """
    logits, scores = as_float32(operands[0]), cast(str, attributes["scores"])
    count = cast(int, attributes["experts_per_token"])
    if scores == "sparsemixer":
        chosen, weights = _sparse_mix(logits, count, cast(float, attributes["jitter"]))
    else:
        values = logits
        if scores == "sigmoid":
            values = sigmoid(logits)
        elif scores == "softmax":
            values = _softmax(logits)
        ranked = values + as_float32(operands[1]) if len(operands) == 2 else values
        chosen = _best(_keep_groups(ranked, attributes), count)
        weights = np.take_along_axis(values, chosen, axis=-1)
        if scores == "softmax_of_chosen":
            weights = _softmax(weights)
    if attributes["normalize"]:
        weights = weights / (weights.sum(axis=-1, keepdims=True) + np.float32(1e-20))
    return chosen.astype(np.int32), weights * np.float32(cast(float, attributes["scale"]))


def _softmax(x: FloatArray) -> FloatArray:
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    result: FloatArray = weights / weights.sum(axis=-1, keepdims=True)
    return result


def _best(values: FloatArray, count: int) -> npt.NDArray[np.int64]:
    return np.argsort(-values, axis=-1, kind="stable")[:, :count]


def _keep_groups(ranked: FloatArray, attributes: Mapping[str, Attribute]) -> FloatArray:
    groups, kept, terms = (cast(int, attributes[key]) for key in ("groups", "kept_groups", "group_terms"))
    if kept == groups:
        return ranked
    by_group = ranked.reshape(len(ranked), groups, -1)
    judged = np.sort(by_group, axis=-1)[..., -terms:].sum(axis=-1)
    stays = np.zeros(judged.shape, bool)
    np.put_along_axis(stays, _best(judged, kept), True, axis=-1)
    return np.where(stays[..., None], by_group, np.float32(-np.inf)).reshape(ranked.shape)


def _sparse_mix(logits: FloatArray, count: int, jitter: float) -> tuple[npt.NDArray[np.int64], FloatArray]:
    left, chosen, weights = logits.copy(), [], []
    for _ in range(count):
        best = _best(left, 1)
        largest = np.take_along_axis(left, best, axis=-1)
        distance = (largest - logits) / np.maximum(np.abs(logits), largest)
        near = np.where(distance > np.float32(2 * jitter), np.float32(-np.inf), left)
        weights.append(np.take_along_axis(_softmax(near), best, axis=-1))
        chosen.append(best)
        np.put_along_axis(left, best, np.float32(-np.inf), axis=-1)
    return np.concatenate(chosen, axis=-1), np.concatenate(weights, axis=-1)


def _infer_take_chosen(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    x, chosen = types
    require(
        chosen.rank == 2 and chosen.element is ScalarType.INT32,
        f"the experts of each token must be int32 [tokens, k], not {chosen}",
    )
    fits = x.rank == 2 and x.shape[0] == chosen.shape[0] and x.element is ScalarType.FLOAT32
    require(fits, f"{x} is not float32 [tokens, experts] for the choice {chosen}")
    return (x.with_shape(*chosen.shape),)


@operator("take_chosen", _infer_take_chosen, operands=2)
def _take_chosen(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Of each row ``[tokens, experts]`` the elements with the numbers ``[tokens, k]``.

    So weights that are none of ``route``'s kinds are computed of what its choice takes.
    """
    x, chosen = operands
    return (np.take_along_axis(as_float32(x), plain(chosen).astype(np.int64), axis=-1),)


def _infer_expert_linear(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    x, weight, chosen, *bias = types
    require(
        chosen.rank == 2 and chosen.element is ScalarType.INT32,
        f"the experts of each token must be int32 [tokens, k], not {chosen}",
    )
    require(weight.rank == 3, f"experts' weights must be [experts, outputs, inputs], not {weight}")
    fits = x.shape[:-1] in (chosen.shape[:1], chosen.shape)
    require(fits, f"rows {x} are neither one for each token nor one for each expert of it, {chosen}")
    require_rows(x, weight)
    expected = TensorType(weight.shape[:2], ScalarType.FLOAT32)
    require(all(b == expected for b in bias), f"the bias must be {expected}, not {', '.join(map(str, bias))}")
    return (TensorType((*chosen.shape, weight.shape[1]), ScalarType.FLOAT32),)


@operator("expert_linear", _infer_expert_linear, operands=(3, 4))
def _expert_linear(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """``linear`` of each row by the weight (and bias) of each of its token's experts.

    Operands: rows ``[tokens, inputs]``, or ``[tokens, k, inputs]`` where each expert has a row of its own;
    weights ``[experts, outputs, inputs]``; experts int32 ``[tokens, k]``; a bias ``[experts, outputs]``.
    """
    x, weight, experts, *bias = operands
    chosen = plain(experts)
    result = np.zeros((*chosen.shape, weight.shape[1]), np.float32)
    for expert in np.unique(chosen):
        tokens, places = np.nonzero(chosen == expert)
        rows = x[(tokens,) if len(x.shape) == 2 else (tokens, places)]
        result[tokens, places] = product(rows, weight[expert])
        if bias:
            result[tokens, places] += as_float32(bias[0])[expert]
    return (result,)


def _infer_weighted_sum(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    x, weights = types
    fits = x.rank == 3 and x.element is ScalarType.FLOAT32
    require(
        fits and weights == x.with_shape(*x.shape[:2]), f"{x} and {weights} are not [n, k, width] and [n, k]"
    )
    return (x.with_shape(x.shape[0], x.shape[2]),)


@operator("weighted_sum", _infer_weighted_sum, operands=2)
def _weighted_sum(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """The sum over k of rows ``[n, k, width]`` times weights ``[n, k]``."""
    x, weights = map(as_float32, operands)
    return (np.einsum("nkw,nk->nw", x, weights),)


def _infer_stack(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    if any(other != types[0] for other in types):
        raise IRError(
            f"only tensors of one type are stacked, not {', '.join(map(str, dict.fromkeys(types)))}"
        )
    return (types[0].with_shape(len(types), *types[0].shape),)


@operator("stack", _infer_stack, operands=(1, None))
def _stack(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """Tensors of one type along a new first dimension."""
    return (by_component(operands, lambda *arrays: np.stack(arrays)),)
