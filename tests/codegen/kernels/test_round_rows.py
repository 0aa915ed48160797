"""Rows rounded to bfloat16, as numbers and as bits."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from ingot.codegen.kernels.round_rows import round_rows
from ingot.codegen.kernels.rows import RoundedRows, Rows

from .machines import Machine, filled


def hard_to_round(num_rows: int, width: int) -> np.ndarray:
    """Numbers of all sizes, ties, subnormal numbers, infinities and what is no number."""
    random = np.random.default_rng(width)
    bits = random.integers(0, 1 << 32, (num_rows, width), np.uint32, endpoint=False)
    bits[1] = bits[1] & 0xFFFF0000 | 0x8000  # halfway
    bits[2] = bits[2] & 0x007FFFFF
    bits[3, :4] = 0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF
    bits[3, 4:6] = 0x7F7FFFFF, 0x80000000
    return bits.view(np.float32)


@pytest.mark.parametrize("as_pairs", [False, True])
@pytest.mark.parametrize("width", [6, 64, 77])
def test_each_is_the_nearest(machine: Machine, width: int, as_pairs: bool) -> None:
    view = Rows(width, width + 5, 3)
    kernel = machine.build(round_rows(machine.isa, "kernel", view, as_pairs))
    x = np.full((5, view.stride), np.nan, np.float32)
    x[:, 3 : 3 + width] = hard_to_round(5, width)
    with np.errstate(invalid="ignore"):
        expected = x[:, 3 : 3 + width].astype(ml_dtypes.bfloat16)
    stride = RoundedRows(width).stride if as_pairs else width
    out = filled((5, stride), "uint16" if as_pairs else "float32")
    kernel(x, out)
    found = out.view(ml_dtypes.bfloat16) if as_pairs else out
    np.testing.assert_array_equal(found[:, :width].astype(np.float32), expected.astype(np.float32))
    assert not found[:, width:].astype(np.float32).any()


@pytest.mark.parametrize("width", [1, 31, 32, 64, 2048, 2080])
def test_neighbouring_rows_lie_apart(width: int) -> None:
    stride = RoundedRows(width).stride
    assert width <= stride < width + 64
    assert stride % 64 == 32
