"""What a model makes a machine do, counted in the step that it was compiled from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from ...ir import Graph, QuantFormat, TensorType, parse_module, row_bytes_of
from ...ir.errors import ArtifactError
from ...targets import Manifest
from ..execution.artifact import Artifact

__all__ = ["ModelWork", "count_work"]

_STAGE = "paged"


@dataclass(frozen=True, slots=True)
class _Cache:
    """A layer's keys and values: bytes for a position, and how many positions back are read (0: all)."""

    bytes_per_position: int
    window: int


@dataclass(frozen=True, slots=True)
class _Experts:
    """Weights of a layer's experts: bytes of all, how many there are, and how many a token has."""

    num_bytes: int
    num_experts: int
    experts_per_token: int

    def read_by(self, num_tokens: int) -> float:
        """Bytes of the experts that so many tokens have, where each has any of them as likely as not."""
        missed: float = (1 - self.experts_per_token / self.num_experts) ** num_tokens
        return self.num_bytes * (1 - missed)


@dataclass(frozen=True, slots=True)
class ModelWork:
    """What a step reads and computes.

    Attributes:
        weight_bytes: of the matrices that every step multiplies by, each read once; an embedding's table, of
            which only rows are read, is not among them unless it is the head too, nor are experts.
        operations_per_token: of the products that every token takes part in, two for each weight.
        operations_per_row: likewise, of those for a row of logits.
        is_integer: all of the former are products of integers, but for the choice of experts.
    """

    weight_bytes: int
    operations_per_token: int
    operations_per_row: int
    is_integer: bool
    caches: tuple[_Cache, ...]
    experts: tuple[_Experts, ...] = ()

    def kv_bytes(self, context_length: float) -> float:
        """Bytes of keys and values that a token attends to at the end of so many positions."""
        return sum(
            cache.bytes_per_position * (min(context_length, cache.window) if cache.window else context_length)
            for cache in self.caches
        )

    def decode_bytes(self, num_sequences: int, context_length: float) -> float:
        """Bytes read by a step that gives a token to each of so many sequences."""
        chosen = sum(experts.read_by(num_sequences) for experts in self.experts)
        return self.weight_bytes + chosen + num_sequences * self.kv_bytes(context_length)

    def prefill_operations(self, num_tokens: int) -> int:
        """Operations of matrix products for a prompt; attention is left out, as is usual."""
        return num_tokens * self.operations_per_token + self.operations_per_row


def count_work(artifact: Artifact) -> ModelWork:
    """Count what a step of an artifact's model does.

    Raises :class:`ArtifactError` where the step's text is not there.
    """
    path = artifact.folder / "ir" / f"{_STAGE}.ir"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None
    return _count(parse_module(text).forward, _parameter_bytes(artifact.manifest))


def _parameter_bytes(manifest: Manifest) -> dict[str, int]:
    return {
        parameter.name: sum(
            int(np.prod(array.shape, dtype=np.int64)) * np.dtype(array.dtype).itemsize
            for array in parameter.arrays
        )
        for parameter in manifest.parameters
    }


def _count(graph: Graph, parameter_bytes: dict[str, int]) -> ModelWork:
    products = [
        operation for operation in graph.operations if operation.operator in ("linear", "head_linear")
    ]
    operations = {"tokens": 0, "rows": 0}
    is_integer = True
    for product in products:
        rows, matrix = product.result.type.shape[0], product.operands[1].type
        operations[str(rows)] += 2 * math.prod(int(dim) for dim in matrix.shape)
        is_router = any(user.operator == "route" for user in graph.users.get(product.result, ()))
        if rows == "tokens" and not is_router:
            is_integer = is_integer and isinstance(matrix.element, QuantFormat)
    experts = []
    for operation in graph.operations:
        if operation.operator == "expert_linear":
            weight, chosen = operation.operands[1], int(operation.operands[2].type.shape[1])
            count, outputs, inputs = (int(dim) for dim in weight.type.shape)
            operations["tokens"] += 2 * chosen * outputs * inputs
            is_integer = is_integer and isinstance(weight.type.element, QuantFormat)
            experts.append(_Experts(parameter_bytes[weight.name], count, chosen))
    caches = []
    for operation in graph.operations:
        if operation.operator == "paged_attention":
            num_bytes = sum(_bytes_per_position(cache.type) for cache in operation.operands[1:3])
            caches.append(_Cache(num_bytes, cast(int, operation.attributes["window"])))
        elif operation.operator == "paged_latent_attention":
            caches.append(_Cache(_bytes_per_position(operation.operands[1].type), 0))
    return ModelWork(
        weight_bytes=sum(parameter_bytes[name] for name in {p.operands[1].name for p in products}),
        operations_per_token=operations["tokens"],
        operations_per_row=operations["rows"],
        is_integer=is_integer,
        caches=tuple(caches),
        experts=tuple(experts),
    )


def _bytes_per_position(cache: TensorType) -> int:
    return int(cache.shape[1]) * row_bytes_of(cache)
