"""Machines whose kernels differ from another's in some products alone: AVX-VNNI, and Arm's i8mm.

Sums of codes are exact, so every bit is the interpreter's. Shapes are small, for AVX-VNNI may be emulated.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from ingot.codegen.kernels.coded import CodedMatrix
from ingot.codegen.kernels.float_product import FloatMatrix
from ingot.codegen.kernels.layout import Layout, pack
from ingot.codegen.kernels.linear import linear_quantized
from ingot.codegen.kernels.linear_float import linear_float
from ingot.codegen.kernels.rows import RoundedRows
from ingot.ir import find_format, find_operator, quantize

from .machines import Machine, filled, find_machine
from .row_arrays import row_arrays, row_format


@pytest.fixture(scope="module", params=["x86-64-v3-vnni", "aarch64-i8mm"])
def other(request: pytest.FixtureRequest) -> Machine:
    found = find_machine(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.mark.parametrize(
    ("name", "inputs"), [("int4_g32_i5", 96), ("int8_row", 160), ("int4_g32", 64), ("int8_g32", 32)]
)
def test_products_are_exact(other: Machine, name: str, inputs: int) -> None:
    """By tiles for few rows, by panels for many, in whole tiles of rows and with a remainder."""
    outputs, element = 35, find_format(name)
    matrix = CodedMatrix(outputs, inputs, element)
    kernel = other.build(linear_quantized(other.isa, "kernel", matrix, False))
    random = np.random.default_rng(inputs)
    weight = quantize(random.standard_normal((outputs, inputs), np.float32), element)
    x = quantize(random.standard_normal((19, inputs), np.float32), row_format(matrix))
    x.codes[1], x.codes[2] = 127, -127
    (meant,) = find_operator("linear").evaluate([x, weight], {}, {})
    arrays = pack(weight, Layout.BLOCKED)
    together = filled((19, outputs), "float32")
    kernel(*row_arrays(matrix, x), *arrays, together)
    if element.is_whole_by_row:
        np.testing.assert_array_equal(together, np.asarray(meant))
    else:
        np.testing.assert_allclose(together, np.asarray(meant), rtol=1e-4, atol=1e-4)
    for num_rows in (1, 3, 9, 16):
        out = filled((num_rows, outputs), "float32")
        kernel(*row_arrays(matrix, x[:num_rows]), *arrays, out)
        np.testing.assert_array_equal(out, together[:num_rows])


def test_pairs_of_bfloat16_on_arm() -> None:
    """Sums are rounded as the machine will, but a row's always alike."""
    machine = find_machine("aarch64-i8mm")
    if isinstance(machine, str):
        pytest.skip(machine)
    rows, matrix = RoundedRows(75), FloatMatrix(35, 75, "uint16")
    kernel = machine.build(linear_float(machine.isa, "kernel", matrix, rows, False))
    random = np.random.default_rng(5)
    weight = random.standard_normal((35, 75), np.float32).astype(ml_dtypes.bfloat16)
    x = np.zeros((9, rows.stride), ml_dtypes.bfloat16)
    x[:, :75] = random.standard_normal((9, 75), np.float32)
    arrays = pack(weight, Layout.BLOCKED)
    together = filled((9, 35), "float32")
    kernel(x.view(np.uint16), *arrays, together)
    np.testing.assert_allclose(together, x[:, :75].astype(float) @ weight.astype(float).T, atol=1e-4)
    for num_rows in (1, 2, 5):
        out = filled((num_rows, 35), "float32")
        kernel(x[:num_rows].view(np.uint16), *arrays, out)
        np.testing.assert_array_equal(out, together[:num_rows])
