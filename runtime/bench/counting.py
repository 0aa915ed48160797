"""Counting what a model does in the text of the step that it was compiled from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np

from ...ir import Graph, Operation, QuantFormat, ScalarType, TensorType, Value, parse_module, row_bytes_of
from ...ir.errors import ArtifactError
from ...targets import Manifest
from ..execution.artifact import Artifact
from .model_work import Arithmetic, Cache, ModelWork, Product

__all__ = ["count_work"]

_STAGE = "paged"
_PRODUCTS = frozenset({"linear", "head_linear"})
_APPENDS = frozenset({"append_kv", "append_latents"})
_ATTENTIONS = {"paged_attention": 2, "paged_latent_attention": 1}
"""How many caches follow an attention's queries."""


def count_work(artifact: Artifact) -> ModelWork:
    """Count what a step of an artifact's model does.

    Raises :class:`ArtifactError` where the step's text is not there.
    """
    path = artifact.folder / "ir" / f"{_STAGE}.ir"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None
    graph = parse_module(text).forward
    caches = tuple(_caches(graph))
    cached = frozenset[str]().union(*(cache.states for cache in caches))
    return ModelWork(
        products=tuple(_products(graph, _parameter_bytes(artifact.manifest))),
        caches=caches,
        slots=frozenset(state.name for state in graph.states) - cached,
    )


def _parameter_bytes(manifest: Manifest) -> Mapping[str, int]:
    return {
        parameter.name: sum(
            int(np.prod(array.shape, dtype=np.int64)) * np.dtype(array.dtype).itemsize
            for array in parameter.arrays
        )
        for parameter in manifest.parameters
    }


def _products(graph: Graph, parameter_bytes: Mapping[str, int]) -> Iterator[Product]:
    vocab_size = graph.outputs[0].type.shape[-1]
    for operation in graph.operations:
        if operation.operator in _PRODUCTS:
            result, weight = operation.result, operation.operands[1]
            of_tokens = result.type.shape[0] == "tokens"
            yield Product(
                weight=weight.name,
                num_bytes=parameter_bytes[weight.name],
                operations=2 * math.prod(int(dim) for dim in weight.type.shape),
                arithmetic=_arithmetic(operation),
                of_tokens=of_tokens,
                is_head=not of_tokens and result.type.shape[-1] == vocab_size,
                is_router=any(user.operator == "route" for user in graph.users.get(result, ())),
            )
        elif operation.operator == "expert_linear":
            weight, chosen = operation.operands[1], operation.operands[2]
            count, outputs, inputs = (int(dim) for dim in weight.type.shape)
            num_chosen = int(chosen.type.shape[1])
            yield Product(
                weight=weight.name,
                num_bytes=parameter_bytes[weight.name],
                operations=2 * num_chosen * outputs * inputs,
                arithmetic=_arithmetic(operation),
                of_tokens=chosen.type.shape[0] == "tokens",
                of_experts=True,
                share_of_row=num_chosen / count,
            )


def _arithmetic(product: Operation) -> Arithmetic:
    """Kernels multiply what rows are rounded to, if they are."""
    rows = product.operands[0].type.element
    if isinstance(rows, QuantFormat):
        return Arithmetic.INT8
    return Arithmetic.BFLOAT16 if rows is ScalarType.BFLOAT16 else Arithmetic.FLOAT32


def _caches(graph: Graph) -> Iterator[Cache]:
    states = {
        written: state
        for operation in graph.operations
        if operation.operator in _APPENDS
        for state, written in zip(operation.operands, operation.results, strict=False)
    }
    for operation in graph.operations:
        if operation.operator in _ATTENTIONS:
            queries, *others = operation.operands
            caches = [states.get(cache, cache) for cache in others[: _ATTENTIONS[operation.operator]]]
            yield _cache(operation, queries, caches)


def _cache(attention: Operation, queries: Value, caches: list[Value]) -> Cache:
    heads, key_size = (int(dim) for dim in queries.type.shape[1:])
    return Cache(
        states=frozenset(cache.name for cache in caches),
        bytes_per_position=sum(_bytes_per_position(cache.type) for cache in caches),
        window=cast(int, attention.attributes.get("window", 0)),
        operations_per_pair=2 * heads * (key_size + int(attention.result.type.shape[2])),
    )


def _bytes_per_position(cache: TensorType) -> int:
    return int(cache.shape[1]) * row_bytes_of(cache)
