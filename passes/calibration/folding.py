"""Where the inputs of weights can be divided by scales for nothing: in what makes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...ir import Graph, Operation, Value
from .statistics import Site

__all__ = ["Fold", "find_fold"]

_NORMS = {"rms_norm": 1, "layer_norm": 1, "add_rms_norm": 2, "add_layer_norm": 2}
"""Norms, and where the weight is among their operands; behind it comes the bias."""


@dataclass(frozen=True)
class Fold:
    """Parameters whose values, or rows, are divided by the scales of a site's inputs.

    ``ties`` ``[inputs]`` says which parameter's element each input comes from, None where one by one: inputs
    of one element have one scale.
    """

    parameters: tuple[str, ...]
    ties: npt.NDArray[np.int64] | None = None

    def spread(self, magnitude: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mean magnitudes ``[inputs]``, the same for inputs that are tied."""
        if self.ties is None:
            return magnitude
        sums = np.bincount(self.ties, magnitude) / np.bincount(self.ties)
        return sums[self.ties].astype(np.float32)

    def of_parameters(self, scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The scales ``[elements]`` of the parameters, from those of the inputs."""
        if self.ties is None:
            return scales
        result = np.empty(int(self.ties.max()) + 1, np.float32)
        result[self.ties] = scales
        return result


def find_fold(site: Site, graph: Graph, rounded: Mapping[Operation, object]) -> Fold | None:
    """What the inputs of ``site`` can be divided in, None where nothing can.

    ``graph`` is the whole model's, ``rounded`` are the products whose weights are quantized: they take
    what is multiplied or divided with them into their codes.
    """
    rows = site.products[0].operands[0]
    if site.operator != "linear" or not _is_private(rows, graph, site.products, rounded):
        return None
    producer = graph.producers.get(rows)
    if producer is None:
        return None
    if producer.operator in _NORMS and rows is producer.results[-1]:
        parameters = producer.operands[_NORMS[producer.operator] :]
        return _of(parameters, producer, graph)
    if producer.operator == "mul":
        return _of_factor(rows, producer, graph, rounded)
    return _of_values(rows, graph, rounded)


def _is_private(
    rows: Value, graph: Graph, products: Collection[Operation], rounded: Mapping[Operation, object]
) -> bool:
    users = graph.users.get(rows, ())
    return rows not in graph.outputs and all(user in products and user in rounded for user in users)


def _of(
    parameters: tuple[Value, ...], owner: Operation, graph: Graph, ties: npt.NDArray[np.int64] | None = None
) -> Fold | None:
    """A fold into parameters that nothing but ``owner`` uses."""
    owned = bool(parameters) and all(
        value in graph.parameters and graph.users[value] == (owner,) for value in parameters
    )
    return Fold(tuple(value.name for value in parameters), ties) if owned else None


def _only_user(value: Value, user: Operation, graph: Graph) -> bool:
    return graph.users.get(value) == (user,) and value not in graph.outputs


def _of_factor(
    rows: Value, product: Operation, graph: Graph, rounded: Mapping[Operation, object]
) -> Fold | None:
    """Into the rows of a linear that is one factor of a gated feed-forward layer's values."""
    for factor in reversed(product.operands):
        linear = graph.producers.get(factor)
        if (
            linear is not None
            and linear.operator == "linear"
            and linear in rounded
            and factor.type == rows.type
            and _only_user(factor, product, graph)
            and (fold := _of(linear.operands[1:], linear, graph)) is not None
        ):
            return fold
    return None


def _of_values(rows: Value, graph: Graph, rounded: Mapping[Operation, object]) -> Fold | None:
    """Into the rows of the linear that makes an attention's values; heads that share one share scales."""
    joined = graph.producers.get(rows)
    if joined is None or joined.operator != "reshape":
        return None
    attention = graph.producers.get(joined.operands[0])
    if attention is None or attention.operator not in ("attention", "bidirectional_attention"):
        return None
    split = graph.producers.get(attention.operands[2])
    linear = None if split is None else graph.producers.get(split.operands[0])
    if split is None or linear is None or split.operator != "reshape" or linear.operator != "linear":
        return None
    heads, width = (int(dim) for dim in attention.result.type.shape[1:])
    kv_heads = int(split.result.type.shape[1])
    private = (
        _only_user(attention.result, joined, graph)
        and _only_user(split.result, attention, graph)
        and _only_user(linear.result, split, graph)
    )
    fits = rows.type.shape[-1] == heads * width and split.result.type.shape[2:] == (width,)
    if not private or not fits or linear not in rounded:
        return None
    of_head = np.arange(heads) // (heads // kv_heads)
    ties = (of_head[:, None] * width + np.arange(width)).reshape(-1)
    return _of(linear.operands[1:], linear, graph, ties)
