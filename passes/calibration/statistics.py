"""What is learned of the inputs of a layer's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...ir import Array, Graph, Operation, QuantizedArray
from .grid import FloatArray

__all__ = ["Site", "Statistics", "find_sites"]

_MOST_SAMPLES = 512
"""Rows that are kept as they are."""


class Statistics:
    """Of the rows ``[.., inputs]`` that meet a matrix: means of squares and magnitudes, some rows, and the
    sum of their products with each other, if wanted.
    """

    def __init__(self, inputs: int, *, with_gram: bool) -> None:
        self.num_rows = 0
        self._squares = np.zeros(inputs, np.float64)
        self._magnitudes = np.zeros(inputs, np.float64)
        self._gram = np.zeros((inputs, inputs), np.float32) if with_gram else None
        self._samples: list[FloatArray] = []

    def add(self, rows: FloatArray) -> None:
        """Take note of ``rows`` ``[n, inputs]``."""
        self.num_rows += len(rows)
        self._squares += np.einsum("nk,nk->k", rows, rows)
        self._magnitudes += np.abs(rows).sum(axis=0)
        if self._gram is not None:
            self._gram += rows.T @ rows
        self._samples.append(rows[:: max(1, len(rows) // 64)].copy())

    @property
    def importance(self) -> FloatArray:
        """Mean squares of the inputs, ``[inputs]``; what is never other than zero counts a little, too."""
        mean = self._squares / max(self.num_rows, 1)
        floor = max(float(mean.mean()) * 1e-6, 1e-30)
        return np.maximum(mean, floor).astype(np.float32)

    @property
    def magnitude(self) -> FloatArray:
        """Mean magnitudes of the inputs, ``[inputs]``."""
        return (self._magnitudes / max(self.num_rows, 1)).astype(np.float32)

    @property
    def gram(self) -> FloatArray:
        """``x.T @ x`` over the rows, divided by their number."""
        assert self._gram is not None
        return self._gram / np.float32(max(self.num_rows, 1))

    @property
    def samples(self) -> FloatArray:
        """Some of the rows, from all over the text."""
        rows = np.concatenate(self._samples)
        return rows[:: -(-len(rows) // _MOST_SAMPLES)]


@dataclass(frozen=True)
class Site:
    """Products of one value with weights: ``products`` are of one operator and meet the same rows.

    A weight of several matrices, of experts or heads, has statistics for each of these.
    """

    rows: str
    products: tuple[Operation, ...]

    @property
    def operator(self) -> str:
        """``linear``, ``expert_linear`` or ``head_linear``."""
        return self.products[0].operator

    def statistics(self, *, with_gram: bool) -> tuple[Statistics, ...]:
        """Empty ones: one, or one for each matrix of the weights."""
        *lead, _, inputs = (int(dim) for dim in self.products[0].operands[1].type.shape)
        count = lead[0] if lead else 1
        return tuple(Statistics(inputs, with_gram=with_gram and not lead) for _ in range(count))

    def rows_of(self, values: Mapping[str, Array]) -> Iterator[tuple[int, FloatArray]]:
        """The rows that meet each matrix, by its number."""
        rows = _plain(values[self.rows])
        if self.operator == "linear":
            yield 0, rows.reshape(-1, rows.shape[-1])
        elif self.operator == "head_linear":
            for head in range(rows.shape[1]):
                yield head, rows[:, head]
        else:
            chosen = _plain(values[self.products[0].operands[2].name]).astype(np.int64)
            for expert in np.unique(chosen):
                tokens, places = np.nonzero(chosen == expert)
                yield int(expert), rows[tokens] if rows.ndim == 2 else rows[tokens, places]

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of the values that :meth:`rows_of` needs."""
        return (self.rows, *(operand.name for operand in self.products[0].operands[2:3]))[
            : 2 if self.operator == "expert_linear" else 1
        ]


def find_sites(graph: Graph, weights: Mapping[Operation, object]) -> tuple[Site, ...]:
    """The sites of ``graph`` where one of ``weights`` is used, in order."""
    found: dict[tuple[str, ...], list[Operation]] = {}
    for operation in graph.operations:
        if operation in weights and operation.operator != "embedding":
            experts = [operand.name for operand in operation.operands[2:3]]
            key = (
                operation.operator,
                operation.operands[0].name,
                *experts * (operation.operator == "expert_linear"),
            )
            found.setdefault(key, []).append(operation)
    return tuple(Site(key[1], tuple(products)) for key, products in found.items())


def _plain(array: Array) -> npt.NDArray[np.float32]:
    assert not isinstance(array, QuantizedArray)
    result: FloatArray = np.asarray(array, np.float32) if array.dtype != np.int32 else array  # type: ignore[assignment]
    return result
