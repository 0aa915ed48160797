"""Rounding rows to 8 bits on every machine: the interpreter's codes and scales, bit for bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from ingot.codegen.kernels.quantize import quantize_rows
from ingot.codegen.kernels.rows import Rows
from ingot.ir import find_format, quantize

from .machines import Kernel, Machine, filled
from .tiles import in_rows

FORMAT = find_format("dynamic_int8_g32")
WIDTH, STRIDE, OFFSET = 96, 107, 5
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def kernel(machine: Machine) -> Kernel:
    return machine.build(quantize_rows(machine.isa, "kernel", Rows(WIDTH, STRIDE, OFFSET), 32))


def run(machine: Machine, kernel: Kernel, rows: Floats) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes ``[m, width]``, scales and sums ``[m, groups]`` of ``rows`` ``[m, width]``."""
    x = np.full((len(rows), STRIDE), np.nan, np.float32)
    x[:, OFFSET : OFFSET + WIDTH] = rows
    codes = filled((len(rows), WIDTH), "int8")
    scales, sums = (filled((len(rows), WIDTH // 32), dtype) for dtype in ("float32", "int32"))
    kernel(x, codes, scales, sums)
    return in_rows(codes, machine.isa.integer_rows), scales, sums


def check(machine: Machine, kernel: Kernel, rows: Floats) -> None:
    codes, scales, sums = run(machine, kernel, rows)
    expected = quantize(rows, FORMAT)
    np.testing.assert_array_equal(codes, expected.codes)
    np.testing.assert_array_equal(scales, expected.scales)
    np.testing.assert_array_equal(sums, codes.reshape(len(rows), -1, 32).sum(axis=-1, dtype=np.int32))


@pytest.mark.parametrize("num_rows", range(1, 21))
def test_every_number_of_rows(machine: Machine, kernel: Kernel, num_rows: int) -> None:
    check(machine, kernel, np.random.default_rng(num_rows).standard_normal((num_rows, WIDTH), np.float32))


def test_every_magnitude(machine: Machine, kernel: Kernel) -> None:
    """From what is almost the smallest normal float to what is almost the largest."""
    random = np.random.default_rng(0)
    magnitudes = np.float32(10) ** np.linspace(-35, 37, 3 * 19, dtype=np.float32)
    rows = random.uniform(-1, 1, (19, 3, 32)).astype(np.float32) * magnitudes.reshape(19, 3, 1)
    check(machine, kernel, rows.reshape(19, WIDTH))


def test_halves_round_to_even(machine: Machine, kernel: Kernel) -> None:
    row = np.zeros(WIDTH, np.float32)
    row[:32] = np.arange(32) - 15.5
    row[0] = 127  # a scale of 1
    codes, _, _ = run(machine, kernel, row[None])
    assert codes[0, 1:5].tolist() == [-14, -14, -12, -12]


def test_zeros(machine: Machine, kernel: Kernel) -> None:
    rows = np.zeros((3, WIDTH), np.float32)
    rows[1, 32:64] = -0.0
    rows[2, 40] = 3.0
    check(machine, kernel, rows)


def test_denormals_vanish_or_stay_small(machine: Machine, kernel: Kernel) -> None:
    """Too small for the inverse of a scale: whatever the codes, the values are denormal still."""
    rows = np.full((1, WIDTH), 1e-40, np.float32)
    rows[0, ::2] *= -1
    codes, scales, _ = run(machine, kernel, rows)
    assert np.abs(codes * np.repeat(scales, 32, axis=1)).max() < 1e-37


@pytest.mark.parametrize("poison", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_stays_none_and_harms_no_neighbour(
    machine: Machine, kernel: Kernel, poison: float
) -> None:
    rows = np.random.default_rng(1).standard_normal((11, WIDTH), np.float32)
    whole = run(machine, kernel, rows)
    rows[4, 50] = poison
    codes, scales, sums = run(machine, kernel, rows)
    with np.errstate(invalid="ignore"):
        values = codes[4].astype(np.float32) * np.repeat(scales[4], 32)
    assert not np.isfinite(values[32:64]).all()
    others = np.arange(11) != 4
    for found, expected in zip((codes, scales, sums), whole, strict=True):
        np.testing.assert_array_equal(found[others], expected[others])
