"""What each kernel of a step has to do, from what it is given and the text that the step was compiled from.

Kernels are known by their arguments, not by their names: whatever is given a product's weights multiplies by
them, whatever is given a cache and the tables of its pages attends to it. So it does not matter here how
operators are fused, or what kernels are called.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from ..scheduling.step import Step
from .model_work import Arithmetic, Cache, ModelWork, Product, slowest
from .step_calls import KernelCall

__all__ = ["CallWork", "Group", "StepWork"]


class Group(Enum):
    """Where a step's time goes."""

    PRODUCTS = "products by matrices"
    HEAD = "head"
    ATTENTION = "attention"
    STATES = "recurrences"
    ROWS = "norms, rope, rounding"
    SAMPLING = "sampling"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class CallWork:
    """What a call has to do at least.

    Attributes:
        group: where it belongs.
        num_bytes: of weights, or of keys and values, read once; else of rows, each read or written once.
        operations: of products, two for each; other arithmetic is not counted.
        arithmetic: what these products are of.
    """

    group: Group
    num_bytes: float
    operations: float = 0.0
    arithmetic: Arithmetic | None = None


class StepWork:
    """Says what the calls of one step have to do."""

    def __init__(self, work: ModelWork, step: Step) -> None:
        self._work = work
        self._num_tokens = step.num_tokens
        self._num_rows = step.num_logit_rows
        self._sequences = [
            (chunk.num_computed_tokens + len(chunk.token_ids), len(chunk.token_ids)) for chunk in step.chunks
        ]

    def of(self, call: KernelCall) -> CallWork:
        """What one call does."""
        known = frozenset(call.known)
        products = [product for product in self._work.products if product.weight in known]
        if products and "token_ids" not in known:
            return self._multiply(products)
        caches = [cache for cache in self._work.caches if _holds(cache.states, known)]
        if caches and "page_table" in known:
            return self._attend(caches)
        if caches:
            return CallWork(Group.ATTENTION, call.num_other_bytes)
        group = Group.STATES if _holds(self._work.slots, known) else Group.ROWS
        return CallWork(group, call.num_other_bytes)

    def _multiply(self, products: Sequence[Product]) -> CallWork:
        num_rows = {
            product: self._num_tokens if product.of_tokens else self._num_rows for product in products
        }
        return CallWork(
            Group.HEAD if all(product.is_head for product in products) else Group.PRODUCTS,
            sum(product.bytes_read(count) for product, count in num_rows.items()),
            sum(product.operations * count for product, count in num_rows.items()),
            slowest(product.arithmetic for product in products),
        )

    def _attend(self, caches: Sequence[Cache]) -> CallWork:
        num_bytes = operations = 0.0
        for cache in caches:
            for context_length, num_tokens in self._sequences:
                num_bytes += cache.bytes_per_position * cache.positions_read(context_length, num_tokens)
                operations += cache.operations_per_pair * cache.num_pairs(context_length, num_tokens)
        return CallWork(Group.ATTENTION, num_bytes, operations, Arithmetic.FLOAT32)


def _holds(states: Collection[str], known: Collection[str]) -> bool:
    """Whether any known array is one of these states; the arrays of one are named after it."""
    return any(name == state or name.startswith(f"{state}.") for state in states for name in known)
