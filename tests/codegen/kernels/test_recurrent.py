"""Convolutions and scans over slots of state on every machine, against the interpreter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from ingot.codegen.kernels.recurrent import ScanShape, paged_conv, paged_scan
from ingot.codegen.kernels.rows import Rows
from ingot.ir import find_operator

from .machines import Kernel, Machine, filled
from .slots import MIXED, PAGE_SIZE, Batch, rows_of


@dataclass(frozen=True)
class Convolution:
    x: Rows
    taps: int
    has_bias: bool = False

    def build(self, machine: Machine) -> Kernel:
        return machine.build(paged_conv(machine.isa, "kernel", self.x, self.taps, PAGE_SIZE, self.has_bias))


CONVOLUTIONS = {
    "three taps": Convolution(Rows(64, 70, 3), 3),
    "odd width, a bias": Convolution(Rows.dense(41), 4, has_bias=True),
    "less than a vector, two taps": Convolution(Rows(3, 9, 6), 2),
    "several strips": Convolution(Rows.dense(150), 5, has_bias=True),
}


@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution(machine: Machine, case: Convolution) -> None:
    kernel, batch = case.build(machine), Batch.of(MIXED)
    width, num_rows = case.x.width, int(batch.starts[-1])
    buffer, x = rows_of(case.x, num_rows, 3)
    weight, bias = rows_of(Rows.dense(width), case.taps, 4)[0], rows_of(Rows.dense(width), 1, 5)[0]
    biases = [bias[0]] if case.has_bias else []
    slots = batch.slots(case.taps - 1, width)
    expected = find_operator("paged_conv").evaluate(
        [slots, x, weight, *batch.arrays, *biases], {"page_size": PAGE_SIZE}, {}
    )
    written, out = slots.copy(), filled((num_rows, width), "float32")
    kernel(written, buffer, weight, *batch.arrays, *biases, out)
    np.testing.assert_array_equal(written, expected[0])
    np.testing.assert_allclose(out, expected[1], rtol=1e-5, atol=1e-5)
    for sequence in range(len(MIXED)):
        pieces = slots.copy()
        for part, piece in batch.pieces(sequence, 7):
            found = filled((part.stop - part.start, width), "float32")
            kernel(pieces, buffer[part], weight, *piece.arrays, *biases, found)
            np.testing.assert_array_equal(found, out[part])
        for page in batch.table[sequence, : -(-batch.lengths[sequence] // PAGE_SIZE)]:
            np.testing.assert_array_equal(pieces[page], written[page])


@dataclass(frozen=True)
class Scan:
    heads: int
    head_dim: int
    groups: int
    state: int

    @property
    def shape(self) -> ScanShape:
        return ScanShape(self.heads, self.head_dim, self.groups, self.state, PAGE_SIZE)

    @property
    def views(self) -> tuple[Rows, Rows, Rows, Rows]:
        """Where x, steps, b and c lie; x, b and c as slices of what a convolution gives."""
        inner, wide = self.heads * self.head_dim, self.groups * self.state
        stride = inner + 2 * wide
        return (
            Rows(inner, stride),
            Rows(self.heads, self.heads + 5, 5),
            Rows(wide, stride, inner),
            Rows(wide, stride, inner + wide),
        )


SCANS = {
    "small": Scan(heads=6, head_dim=10, groups=2, state=7),
    "whole vectors": Scan(heads=3, head_dim=64, groups=1, state=24),
    "several strips and a rest": Scan(heads=2, head_dim=83, groups=2, state=5),
}


@pytest.mark.parametrize("case", SCANS.values(), ids=SCANS)
def test_scan(machine: Machine, case: Scan) -> None:
    kernel, batch = machine.build(paged_scan(machine.isa, "kernel", case.shape, *case.views)), Batch.of(MIXED)
    num_rows = int(batch.starts[-1])
    buffers = [rows_of(case.views[index], num_rows, 6 + index % 2)[0] for index in (0, 1)]
    x_rows, step_rows = buffers[0], buffers[1] * 3
    arguments = [x_rows, step_rows, x_rows, x_rows]
    views = [
        array[:, view.offset : view.offset + view.width]
        for array, view in zip(arguments, case.views, strict=True)
    ]
    x = views[0].reshape(num_rows, case.heads, case.head_dim)
    b, c = (view.reshape(num_rows, case.groups, case.state) for view in views[2:])
    random = np.random.default_rng(9)
    decay = -np.exp(random.standard_normal(case.heads)).astype(np.float32)
    skip, bias = random.standard_normal((2, case.heads)).astype(np.float32)
    slots = batch.slots(case.heads, case.state, case.head_dim)
    expected = find_operator("paged_scan").evaluate(
        [slots, x, views[1], b, c, decay, skip, bias, *batch.arrays], {"page_size": PAGE_SIZE}, {}
    )
    written, out = slots.copy(), filled((num_rows, case.heads * case.head_dim), "float32")
    kernel(written, *arguments, decay, skip, bias, *batch.arrays, out)
    np.testing.assert_allclose(written, expected[0], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(out, np.asarray(expected[1]).reshape(out.shape), rtol=1e-4, atol=1e-4)
    for sequence in range(len(MIXED)):
        pieces = slots.copy()
        for part, piece in batch.pieces(sequence, 7):
            found = filled((part.stop - part.start, out.shape[1]), "float32")
            kernel(pieces, *(a[part] for a in arguments), decay, skip, bias, *piece.arrays, found)
            np.testing.assert_array_equal(found, out[part])
        for page in batch.table[sequence, : -(-batch.lengths[sequence] // PAGE_SIZE)]:
            np.testing.assert_array_equal(pieces[page], written[page])
