"""Kernels that round what they make: the same bits as rounding afterwards, however many rows there are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ingot.codegen.kernels.elementwise import gate
from ingot.codegen.kernels.norms import layer_norm, rms_norm
from ingot.codegen.kernels.quantize import quantize_rows
from ingot.codegen.kernels.row_codes import RowCodes
from ingot.codegen.kernels.rows import Rows
from tvm import tirx

from .machines import Machine, filled

WIDTH, MOST_ROWS = 96, 50
VIEW, RESIDUAL = Rows(WIDTH, 107, 5), Rows(WIDTH, 99, 1)
LAYOUTS = [RowCodes(WIDTH, 32, 32), RowCodes(WIDTH, WIDTH, 16)]
Make = Callable[[Machine, RowCodes | None], tirx.PrimFunc]

KERNELS: dict[str, tuple[Make, int]] = {
    "rms_norm": (lambda m, codes: rms_norm(m.isa, "kernel", VIEW, WIDTH, 1e-5, None, codes), 0),
    "add_rms_norm": (lambda m, codes: rms_norm(m.isa, "kernel", VIEW, WIDTH, 1e-5, RESIDUAL, codes), 1),
    "layer_norm": (
        lambda m, codes: layer_norm(m.isa, "kernel", VIEW, WIDTH, 1e-5, RESIDUAL, False, codes),
        1,
    ),
    "gate": (lambda m, codes: gate(m.isa, "kernel", Rows(2 * WIDTH, 200, 3), "silu", codes), 0),
}
"""Each with how many results it has before the rows."""


def arguments(name: str, num_rows: int) -> list[np.ndarray]:
    random = np.random.default_rng(num_rows)
    rows = random.standard_normal((num_rows, 200 if name == "gate" else VIEW.stride), np.float32)
    if name == "gate":
        return [rows]
    weight = random.standard_normal(WIDTH, np.float32)
    if name == "rms_norm":
        return [rows, weight]
    return [rows, random.standard_normal((num_rows, RESIDUAL.stride), np.float32), weight]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["groups", "rows"])
@pytest.mark.parametrize("name", KERNELS)
def test_rounding_in_passing_gives_the_same_bits(machine: Machine, name: str, layout: RowCodes) -> None:
    make, num_others = KERNELS[name]
    plain, fused = machine.build(make(machine, None)), machine.build(make(machine, layout))
    quantize = machine.build(quantize_rows(machine.isa, "kernel", Rows.dense(WIDTH), layout))
    for num_rows in (1, 3, MOST_ROWS):
        given = arguments(name, num_rows)

        def floats(count: int, num_rows: int = num_rows) -> list[np.ndarray]:
            return [filled((num_rows, WIDTH), "float32") for _ in range(count)]

        def codes(num_rows: int = num_rows) -> list[np.ndarray]:
            return [filled((num_rows, columns), dtype) for _, columns, dtype in layout.columns]

        results, expected, found = floats(num_others + 1), codes(), floats(num_others) + codes()
        plain(*given, *results)
        quantize(results[-1], *expected)
        fused(*given, *found)
        for one, other in zip(found, [*results[:-1], *expected], strict=True):
            np.testing.assert_array_equal(one, other)
