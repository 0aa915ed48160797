"""The gated delta rule over slots of state on every machine, against the interpreter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from ingot.codegen.kernels.delta_rule import DeltaShape, paged_delta
from ingot.codegen.kernels.rows import Rows
from ingot.ir import find_operator

from .machines import Machine, filled
from .slots import MIXED, PAGE_SIZE, Batch, rows_of


@dataclass(frozen=True)
class Case:
    heads: int
    value_dim: int
    groups: int
    key_dim: int

    @property
    def shape(self) -> DeltaShape:
        return DeltaShape(self.heads, self.value_dim, self.groups, self.key_dim, PAGE_SIZE)

    @property
    def views(self) -> tuple[Rows, ...]:
        """Where q, k, v, steps and rates lie; q, k and v as slices of what a convolution gives."""
        keys, values = self.groups * self.key_dim, self.heads * self.value_dim
        stride = 2 * keys + values
        return (
            Rows(keys, stride),
            Rows(keys, stride, keys),
            Rows(values, stride, 2 * keys),
            Rows(self.heads, self.heads + 5, 5),
            Rows.dense(self.heads),
        )


CASES = {
    "small": Case(heads=6, value_dim=10, groups=2, key_dim=7),
    "whole vectors": Case(heads=3, value_dim=64, groups=3, key_dim=24),
    "several strips and a rest": Case(heads=2, value_dim=83, groups=1, key_dim=5),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_delta_rule(machine: Machine, case: Case) -> None:
    kernel, batch = (
        machine.build(paged_delta(machine.isa, "kernel", case.shape, *case.views)),
        Batch.of(MIXED),
    )
    num_rows = int(batch.starts[-1])
    rows, _ = rows_of(case.views[0], num_rows, 6)
    rows *= np.float32(case.key_dim**-0.5)  # keys of about length 1, as models have them
    steps, _ = rows_of(case.views[3], num_rows, 7)
    rates = 1 / (1 + np.exp(-rows_of(case.views[4], num_rows, 8)[0]))
    arguments = [rows, rows, rows, 3 * steps, rates]
    shapes = [(case.groups, case.key_dim)] * 2 + [(case.heads, case.value_dim)] + [(case.heads,)] * 2
    own = [
        array[:, view.offset : view.offset + view.width].reshape(num_rows, *shape)
        for array, view, shape in zip(arguments, case.views, shapes, strict=True)
    ]
    random = np.random.default_rng(9)
    decay = -np.exp(random.standard_normal(case.heads)).astype(np.float32)
    bias = random.standard_normal(case.heads).astype(np.float32)
    slots = batch.slots(case.heads, case.key_dim, case.value_dim)
    expected = find_operator("paged_delta").evaluate(
        [slots, *own, decay, bias, *batch.arrays], {"page_size": PAGE_SIZE}, {}
    )
    written, out = slots.copy(), filled((num_rows, case.heads * case.value_dim), "float32")
    kernel(written, *arguments, decay, bias, *batch.arrays, out)
    np.testing.assert_allclose(written, expected[0], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(out, np.asarray(expected[1]).reshape(out.shape), rtol=1e-4, atol=1e-4)
    for sequence in range(len(MIXED)):
        pieces = slots.copy()
        for part, piece in batch.pieces(sequence, 7):
            found = filled((part.stop - part.start, out.shape[1]), "float32")
            kernel(pieces, *(a[part] for a in arguments), decay, bias, *piece.arrays, found)
            np.testing.assert_array_equal(found, out[part])
        for page in batch.table[sequence, : -(-batch.lengths[sequence] // PAGE_SIZE)]:
            np.testing.assert_array_equal(pieces[page], written[page])
