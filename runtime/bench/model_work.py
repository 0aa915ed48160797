"""What a model makes a machine do: the bytes it reads, and the products it computes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

__all__ = ["Arithmetic", "Cache", "ModelWork", "Product", "slowest"]


class Arithmetic(Enum):
    """What products are of, slowest first."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


def slowest(kinds: Iterable[Arithmetic]) -> Arithmetic:
    """The slowest of them; float32 where there are none."""
    found = set(kinds)
    return next((kind for kind in Arithmetic if kind in found), Arithmetic.FLOAT32)


@dataclass(frozen=True, slots=True)
class Product:
    """Rows times a matrix, or times those of the experts that each row has.

    Attributes:
        weight: the parameter's name.
        num_bytes: of all its arrays.
        operations: for each row, two for each weight that it meets.
        arithmetic: what is multiplied.
        of_tokens: there is a row for each token; else for each row of logits.
        is_head: its results are the logits.
        is_router: its results choose experts.
        of_experts: the matrices are those of experts.
        share_of_row: of the experts, those that a row has.
    """

    weight: str
    num_bytes: int
    operations: int
    arithmetic: Arithmetic
    of_tokens: bool = True
    is_head: bool = False
    is_router: bool = False
    of_experts: bool = False
    share_of_row: float = 1.0

    def bytes_read(self, num_rows: int) -> float:
        """Bytes that so many rows meet, where each has any of the experts as likely as not."""
        missed: float = (1 - self.share_of_row) ** num_rows
        return self.num_bytes * (1 - missed)


@dataclass(frozen=True, slots=True)
class Cache:
    """A layer's keys and values.

    Attributes:
        states: what holds them.
        bytes_per_position: of all heads.
        window: how many positions back are read; 0: all.
        operations_per_pair: two for each product of a token's queries with a position's keys, and of what
            comes of it with its values.
    """

    states: frozenset[str]
    bytes_per_position: int
    window: int
    operations_per_pair: int

    def positions_read(self, context_length: float, num_tokens: int = 1) -> float:
        """Positions that the last so many tokens of a context attend to, each counted once."""
        return min(context_length, self.window + num_tokens - 1) if self.window else context_length

    def num_pairs(self, context_length: int, num_tokens: int) -> int:
        """Pairs of one of the last so many tokens and a position it attends to."""
        contexts = np.arange(context_length - num_tokens + 1, context_length + 1)
        return int((np.minimum(contexts, self.window) if self.window else contexts).sum())


@dataclass(frozen=True, slots=True)
class ModelWork:
    """What a step reads and computes.

    Attributes:
        products: each weight that rows are multiplied by; an embedding's table, of which only rows are read,
            is not among them unless it is the head too.
        caches: one for each layer that attends.
        slots: the other states.
    """

    products: tuple[Product, ...]
    caches: tuple[Cache, ...]
    slots: frozenset[str] = frozenset()

    @property
    def weight_bytes(self) -> int:
        """Bytes of the matrices that every step multiplies by, each read once; experts are not among them."""
        return sum(product.num_bytes for product in self.products if not product.of_experts)

    @property
    def operations_per_token(self) -> int:
        """Of the products that every token takes part in."""
        return sum(product.operations for product in self.products if product.of_tokens)

    @property
    def operations_per_row(self) -> int:
        """Of the products for a row of logits."""
        return sum(product.operations for product in self.products if not product.of_tokens)

    @property
    def arithmetic(self) -> Arithmetic:
        """The slowest that every token is multiplied in, but for the choice of experts."""
        return slowest(
            product.arithmetic for product in self.products if product.of_tokens and not product.is_router
        )

    def kv_bytes(self, context_length: float) -> float:
        """Bytes of keys and values that a token attends to at the end of so many positions."""
        return sum(cache.bytes_per_position * cache.positions_read(context_length) for cache in self.caches)

    def decode_bytes(self, num_sequences: int, context_length: float) -> float:
        """Bytes read by a step that gives a token to each of so many sequences."""
        weights = sum(product.bytes_read(num_sequences) for product in self.products)
        return weights + num_sequences * self.kv_bytes(context_length)

    def prefill_operations(self, num_tokens: int) -> int:
        """Operations of matrix products for a prompt; attention is left out, as is usual."""
        return num_tokens * self.operations_per_token + self.operations_per_row
