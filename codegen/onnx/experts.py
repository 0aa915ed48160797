"""Mixtures of experts: who takes a token, and their products.

The pairs of tokens and experts are put in order by expert, each expert multiplies its own, and the results go
back to where they belong. An expert that nobody chose multiplies no rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from ...ir import Operation, ScalarType, Value
from .products import matrix_of, multiply
from .step import Rule, Step

__all__ = ["RULES"]

_ABSENT = -1e30
"""A score that is not to be chosen."""


def _route(step: Step, operation: Operation) -> None:
    logits = step.name(operation.operands[0])
    attributes = operation.attributes
    count, scores = cast(int, attributes["experts_per_token"]), cast(str, attributes["scores"])
    if scores == "sparsemixer":
        chosen, weights = _sparse_mix(step, logits, count, cast(float, attributes["jitter"]))
    else:
        values = logits
        if scores == "sigmoid":
            values = step.emit("Sigmoid", logits)
        elif scores == "softmax":
            values = step.emit("Softmax", logits, axis=-1)
        ranked = values
        if len(operation.operands) == 2:
            ranked = step.emit("Add", values, step.name(operation.operands[1]))
        ranked = _keep_groups(step, ranked, operation)
        chosen = step.emit_all("TopK", ranked, step.constant([count]), results=2, axis=-1)[1]
        weights = step.emit("GatherElements", values, chosen, axis=-1)
        if scores == "softmax_of_chosen":
            weights = step.emit("Softmax", weights, axis=-1)
    if attributes["normalize"]:
        total = step.emit("ReduceSum", weights, step.constant([-1]), keepdims=1)
        weights = step.emit("Div", weights, step.emit("Add", total, step.constant(1e-20)))
    numbers, result = operation.results
    step.cast(chosen, ScalarType.INT32, numbers)
    step.emit("Mul", weights, step.constant(cast(float, attributes["scale"])), result=result)


def _keep_groups(step: Step, ranked: str, operation: Operation) -> str:
    """Scores of the groups that stay; those of the others are :data:`_ABSENT`."""
    groups, kept, terms = (
        cast(int, operation.attributes[key]) for key in ("groups", "kept_groups", "group_terms")
    )
    if kept == groups:
        return ranked
    num_experts = int(operation.operands[0].type.shape[1])
    apart = step.reshape(ranked, [-1, groups, num_experts // groups])
    best = step.emit_all("TopK", apart, step.constant([terms]), results=2, axis=-1)[0]
    judged = step.emit("ReduceSum", best, step.constant([-1]), keepdims=0)
    staying = step.emit_all("TopK", judged, step.constant([kept]), results=2, axis=-1)[1]
    is_group = step.emit("Equal", step.unsqueeze(staying, 2), step.constant(list(range(groups))))
    stays = step.emit("ReduceMax", step.cast(is_group, ScalarType.FLOAT32), step.constant([1]), keepdims=0)
    is_absent = step.emit("Equal", step.unsqueeze(stays, 2), step.constant(0.0))
    absent = step.constant(np.array(_ABSENT, np.float32))
    return step.reshape(step.emit("Where", is_absent, absent, apart), [-1, num_experts])


def _sparse_mix(step: Step, logits: str, count: int, jitter: float) -> tuple[str, str]:
    left, chosen, weights = logits, [], []
    absent = step.constant(np.array(_ABSENT, np.float32))
    for _ in range(count):
        largest, best = step.emit_all("TopK", left, step.constant([1]), results=2, axis=-1)
        size = step.emit("Max", step.emit("Abs", logits), largest)
        distance = step.emit("Div", step.emit("Sub", largest, logits), size)
        is_far = step.emit("Greater", distance, step.constant(2 * jitter))
        shares = step.emit("Softmax", step.emit("Where", is_far, absent, left), axis=-1)
        weights.append(step.emit("GatherElements", shares, best, axis=-1))
        chosen.append(best)
        zeros = step.emit("Mul", largest, step.constant(0.0))
        gone = step.emit("Add", zeros, absent)
        left = step.emit("ScatterElements", left, best, gone, axis=-1)
    return step.emit("Concat", *chosen, axis=-1), step.emit("Concat", *weights, axis=-1)


def _take_chosen(step: Step, operation: Operation) -> None:
    x, chosen = map(step.name, operation.operands)
    step.emit("GatherElements", x, chosen, result=operation.result, axis=-1)


def _weighted_sum(step: Step, operation: Operation) -> None:
    x, weights = map(step.name, operation.operands)
    share = step.emit("Mul", x, step.unsqueeze(weights, 2))
    step.emit("ReduceSum", share, step.constant([1]), result=operation.result, keepdims=0)


def _expert_linear(step: Step, operation: Operation) -> None:
    x, weight, chosen, *bias = operation.operands
    matrix = matrix_of(step, weight)
    num_experts, per_token = int(weight.type.shape[0]), int(chosen.type.shape[1])
    order, counts = _grouping(step, chosen, num_experts)
    if x.type.rank == 2:
        tokens = step.once(("tokens", chosen), lambda: step.emit("Div", order, step.constant(per_token)))
        rows = step.emit("Gather", step.name(x), tokens, axis=0)
    else:
        rows = step.emit("Gather", step.reshape(step.name(x), [-1, matrix.inputs]), order, axis=0)
    parts = step.emit_all("Split", rows, counts, results=num_experts, axis=0)
    products = [
        multiply(step, part, matrix.of_expert(expert), rounded=x in step.rounded)
        for expert, part in enumerate(parts)
    ]
    product = step.emit("Concat", *products, axis=0)
    if bias:
        experts = step.emit("Gather", _flat(step, chosen), order, axis=0)
        own = step.emit("Gather", step.name(bias[0]), experts, axis=0)
        product = step.emit("Add", product, own)
    place = step.once(("place", chosen), lambda: _inverse(step, order))
    step.reshape(
        step.emit("Gather", product, place, axis=0), [-1, per_token, matrix.outputs], operation.result
    )


def _flat(step: Step, chosen: Value) -> str:
    """The experts of all tokens, one after the other: int64 ``[tokens * k]``."""
    return step.once(
        ("flat", chosen), lambda: step.cast(step.reshape(step.name(chosen), [-1]), ScalarType.INT64)
    )


def _grouping(step: Step, chosen: Value, num_experts: int) -> tuple[str, str]:
    """The pairs in the order of their experts, int64 ``[tokens * k]``, and how many each expert has."""
    flat = _flat(step, chosen)

    def order() -> str:
        return _inverse(step, flat)

    def counts() -> str:
        experts = step.constant(np.arange(num_experts, dtype=np.int64)[:, None])
        is_own = step.cast(step.emit("Equal", experts, flat), ScalarType.INT64)
        return step.emit("ReduceSum", is_own, step.constant([1]), keepdims=0)

    return step.once(("order", chosen), order), step.once(("counts", chosen), counts)


def _inverse(step: Step, numbers: str) -> str:
    """The places of ``numbers`` in ascending order, of equals the first first; a permutation's inverse."""
    negative = step.emit("Neg", numbers)
    return step.emit_all("TopK", negative, step.emit("Shape", numbers), results=2, axis=-1)[1]


RULES: Mapping[str, Rule] = {
    "expert_linear": _expert_linear,
    "route": _route,
    "take_chosen": _take_chosen,
    "weighted_sum": _weighted_sum,
}
"""By operator."""
