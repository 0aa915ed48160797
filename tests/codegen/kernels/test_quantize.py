"""Rounding rows to 8 bits on every machine: the interpreter's codes and scales, bit for bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from ingot.codegen.kernels.quantize import quantize_rows
from ingot.codegen.kernels.row_codes import RowCodes
from ingot.codegen.kernels.rows import Rows
from ingot.ir import find_format, quantize

from .machines import Kernel, Machine, filled
from .row_arrays import expected_arrays

FORMAT = find_format("dynamic_int8_g32")
WIDTH, STRIDE, OFFSET = 96, 107, 5
Floats = npt.NDArray[np.float32]


LAYOUT = RowCodes(WIDTH, 32, 32)


@pytest.fixture(scope="module")
def kernel(machine: Machine) -> Kernel:
    return machine.build(quantize_rows(machine.isa, "kernel", Rows(WIDTH, STRIDE, OFFSET), LAYOUT))


def run(kernel: Kernel, rows: Floats, layout: RowCodes = LAYOUT) -> list[np.ndarray]:
    """Codes, scales and sums of ``rows`` ``[m, width]``."""
    x = np.full((len(rows), STRIDE), np.nan, np.float32)
    x[:, OFFSET : OFFSET + WIDTH] = rows
    results = [filled((len(rows), columns), dtype) for _, columns, dtype in layout.columns]
    kernel(x, *results)
    return results


def check(kernel: Kernel, rows: Floats, layout: RowCodes = LAYOUT) -> None:
    apart = rows.reshape(len(rows), layout.pieces, layout.inputs)
    whole = layout.group_size == layout.inputs
    expected = quantize(apart, find_format("dynamic_int8_row") if whole else FORMAT)
    arrays = expected_arrays(layout, expected.codes, expected.scales)
    for found, array in zip(run(kernel, rows, layout), arrays, strict=True):
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("layout", [RowCodes(96, 96, 16), RowCodes(32, 32, 32, 3), RowCodes(96, 32, 16)])
def test_whole_rows_and_pieces(machine: Machine, layout: RowCodes) -> None:
    """Rows with a scale each, heads that have theirs, and sums of less than what shares a scale."""
    built = machine.build(quantize_rows(machine.isa, "kernel", Rows(WIDTH, STRIDE, OFFSET), layout))
    check(built, np.random.default_rng(0).standard_normal((5, WIDTH), np.float32), layout)


@pytest.mark.parametrize("num_rows", range(1, 21))
def test_every_number_of_rows(kernel: Kernel, num_rows: int) -> None:
    check(kernel, np.random.default_rng(num_rows).standard_normal((num_rows, WIDTH), np.float32))


def test_every_magnitude(kernel: Kernel) -> None:
    """From what is almost the smallest normal float to what is almost the largest."""
    random = np.random.default_rng(0)
    magnitudes = np.float32(10) ** np.linspace(-35, 37, 3 * 19, dtype=np.float32)
    rows = random.uniform(-1, 1, (19, 3, 32)).astype(np.float32) * magnitudes.reshape(19, 3, 1)
    check(kernel, rows.reshape(19, WIDTH))


def test_halves_round_to_even(kernel: Kernel) -> None:
    row = np.zeros(WIDTH, np.float32)
    row[:32] = np.arange(32) - 15.5
    row[0] = 127  # a scale of 1
    codes, _, _ = run(kernel, row[None])
    assert codes[0, 1:5].tolist() == [-14, -14, -12, -12]


def test_zeros(kernel: Kernel) -> None:
    rows = np.zeros((3, WIDTH), np.float32)
    rows[1, 32:64] = -0.0
    rows[2, 40] = 3.0
    check(kernel, rows)


def test_denormals_vanish_or_stay_small(kernel: Kernel) -> None:
    """Too small for the inverse of a scale: whatever the codes, the values are denormal still."""
    rows = np.full((1, WIDTH), 1e-40, np.float32)
    rows[0, ::2] *= -1
    codes, scales, _ = run(kernel, rows)
    assert np.abs(codes[:, :WIDTH] * np.repeat(scales, 32, axis=1)).max() < 1e-37


@pytest.mark.parametrize("poison", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_stays_none_and_harms_no_neighbour(kernel: Kernel, poison: float) -> None:
    rows = np.random.default_rng(1).standard_normal((11, WIDTH), np.float32)
    whole = run(kernel, rows)
    rows[4, 50] = poison
    codes, scales, sums = run(kernel, rows)
    with np.errstate(invalid="ignore"):
        values = codes[4, :WIDTH].astype(np.float32) * np.repeat(scales[4], 32)
    assert not np.isfinite(values[32:64]).all()
    others = np.arange(11) != 4
    for found, expected in zip((codes, scales, sums), whole, strict=True):
        np.testing.assert_array_equal(found[others], expected[others])
