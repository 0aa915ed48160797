"""Matrix products on every machine: one order of float sums, so the same bits on all of them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from ingot.codegen.kernels.coded import CodedMatrix
from ingot.codegen.kernels.float_product import FloatMatrix
from ingot.codegen.kernels.layout import Layout, pack
from ingot.codegen.kernels.linear import linear_quantized
from ingot.codegen.kernels.linear_float import linear_float
from ingot.codegen.kernels.rows import RoundedRows, Rows
from ingot.ir import QuantizedArray, dequantize, find_format, find_operator, quantize

from .machines import Machine, filled, find_machine
from .row_arrays import row_arrays, row_format, with_panels

Floats = npt.NDArray[np.float32]
NUM_ROWS = range(1, 21)

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="needs long doubles to say what a fused product rounds to"
)


def fma(a: Floats, b: Floats, c: Floats) -> Floats:
    """``a * b + c``, rounded once (twice for less than one in a million)."""
    wide = (array.astype(np.longdouble) for array in (a, b, c))
    x, y, z = wide
    return (x * y + z).astype(np.float32)


def added_up(x: Floats, weight: npt.NDArray[np.generic]) -> Floats:
    """One fused step an input, ascending, but that of each pair of bfloat16 the second comes first."""
    places = np.arange(x.shape[1])
    if weight.dtype == ml_dtypes.bfloat16:
        places = np.concatenate([places[start : start + 2][::-1] for start in range(0, len(places), 2)])
    total = np.zeros((len(x), len(weight)), np.float32)
    for place in places:
        total = fma(x[:, place, None], weight[:, place].astype(np.float32), total)
    return total


@pytest.mark.parametrize(
    ("outputs", "inputs", "dtype", "has_bias"),
    [
        (16, 32, "float32", False),
        (50, 37, "float32", True),
        (1, 5, "float32", True),
        (35, 3, "uint16", False),
        (64, 43, "uint16", True),
        (33, 42, "float16", True),
        (31, 64, "float16", False),
    ],
)
def test_floats(machine: Machine, outputs: int, inputs: int, dtype: str, has_bias: bool) -> None:
    view = Rows(inputs, inputs + 9, 4)
    kernel = machine.build(
        linear_float(machine.isa, "kernel", FloatMatrix(outputs, inputs, dtype), view, has_bias)
    )
    random = np.random.default_rng(outputs)
    weight = random.standard_normal((outputs, inputs)).astype(
        {"uint16": ml_dtypes.bfloat16}.get(dtype, dtype)
    )
    bias = random.standard_normal(outputs, np.float32)
    arrays = [*pack(weight, Layout.BLOCKED), *(pack(bias, Layout.PADDED) if has_bias else ())]
    x = np.full((max(NUM_ROWS), view.stride), np.nan, np.float32)
    rows = x[:, 4 : 4 + inputs]
    rows[...] = random.standard_normal(rows.shape)

    expected = added_up(rows, weight) + (bias if has_bias else np.float32(0))
    (meant,) = find_operator("linear").evaluate([rows, weight, *([bias] if has_bias else [])], {}, {})
    np.testing.assert_allclose(expected, meant, rtol=1e-4, atol=1e-5)
    for num_rows in NUM_ROWS:
        out = filled((num_rows, outputs), "float32")
        kernel(x[:num_rows], *arrays, out)
        np.testing.assert_array_equal(out, expected[:num_rows])


@pytest.mark.parametrize(
    ("outputs", "inputs", "dtype", "num_rows"),
    [(60, 1101, "float32", 17), (51, 1301, "uint16", 18), (1040, 64, "float32", 37)],
    ids=["chunks", "chunks of pairs", "panels"],
)
def test_chunks_and_panels(machine: Machine, outputs: int, inputs: int, dtype: str, num_rows: int) -> None:
    view = Rows.dense(inputs)
    kernel = machine.build(
        linear_float(machine.isa, "kernel", FloatMatrix(outputs, inputs, dtype), view, True)
    )
    random = np.random.default_rng(inputs)
    weight = random.standard_normal((outputs, inputs)).astype(
        {"uint16": ml_dtypes.bfloat16}.get(dtype, dtype)
    )
    bias = random.standard_normal(outputs, np.float32)
    x = random.standard_normal((num_rows, inputs), np.float32)
    out = filled((num_rows, outputs), "float32")
    kernel(x, *pack(weight, Layout.BLOCKED), *pack(bias, Layout.PADDED), out)
    np.testing.assert_array_equal(out, added_up(x, weight) + bias)


@pytest.mark.parametrize("name", ["x86-64-v4-bf16", "aarch64-i8mm"])
@pytest.mark.parametrize(
    ("outputs", "inputs", "has_bias"), [(50, 37, True), (16, 64, False), (51, 1301, True)]
)
def test_rounded_rows(name: str, outputs: int, inputs: int, has_bias: bool) -> None:
    machine = find_machine(name)
    if isinstance(machine, str):
        pytest.skip(machine)
    view = RoundedRows(inputs)
    kernel = machine.build(
        linear_float(machine.isa, "kernel", FloatMatrix(outputs, inputs, "uint16"), view, has_bias)
    )
    random = np.random.default_rng(outputs)
    weight = random.standard_normal((outputs, inputs)).astype(ml_dtypes.bfloat16)
    bias = random.standard_normal(outputs, np.float32)
    arrays = [*pack(weight, Layout.BLOCKED), *(pack(bias, Layout.PADDED) if has_bias else ())]
    x = np.zeros((max(NUM_ROWS), view.stride), ml_dtypes.bfloat16)
    x[:, :inputs] = random.standard_normal((len(x), inputs))
    expected = added_up(x[:, :inputs].astype(np.float32), weight) + (bias if has_bias else np.float32(0))
    alone = np.zeros((len(x), outputs), np.float32)
    for row in range(len(x)):
        kernel(x[row : row + 1].view(np.uint16), *arrays, alone[row : row + 1])
    if name.startswith("x86"):
        np.testing.assert_array_equal(alone, expected)
    else:  # which rounds in an order of its own
        np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-4)
    for num_rows in NUM_ROWS:
        out = filled((num_rows, outputs), "float32")
        kernel(x[:num_rows].view(np.uint16), *arrays, out)
        np.testing.assert_array_equal(out, alone[:num_rows])


def multiplied(x: QuantizedArray, weight: QuantizedArray) -> Floats:
    """Exact sums within groups, then one fused step a group, ascending."""
    groups = (-1, x.shape[1] // 32, 32)
    exact = np.einsum("mgk,ngk->gmn", x.codes.reshape(groups).astype(int), weight.codes.reshape(groups))
    total = np.zeros(exact.shape[1:], np.float32)
    for group, products in enumerate(exact):
        scaled = products.astype(np.float32) * x.scales[:, group, None]
        total = fma(scaled, weight.scales[:, group].astype(np.float32), total)
    return total


@pytest.mark.parametrize("name", ["int8_g32", "int4_g32"])
@pytest.mark.parametrize(
    ("outputs", "inputs", "has_bias"), [(16, 32, False), (50, 96, True), (1, 160, False)]
)
def test_codes(machine: Machine, name: str, outputs: int, inputs: int, has_bias: bool) -> None:
    element = find_format(name)
    matrix = CodedMatrix(outputs, inputs, element)
    kernel = machine.build(linear_quantized(machine.isa, "kernel", matrix, has_bias))
    random = np.random.default_rng(outputs)
    weight = quantize(random.standard_normal((outputs, inputs), np.float32), element)
    bias = random.standard_normal(outputs, np.float32)
    arrays = [*pack(weight, Layout.BLOCKED), *(pack(bias, Layout.PADDED) if has_bias else ())]
    x = quantize(random.standard_normal((max(NUM_ROWS), inputs), np.float32), row_format(matrix))

    expected = multiplied(x, weight) + (bias if has_bias else np.float32(0))
    (meant,) = find_operator("linear").evaluate([x, weight, *([bias] if has_bias else [])], {}, {})
    np.testing.assert_allclose(expected, meant, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        meant, dequantize(x) @ dequantize(weight).T + (bias if has_bias else 0), rtol=1e-3, atol=1e-3
    )
    for num_rows in NUM_ROWS:
        out = filled((num_rows, outputs), "float32")
        kernel(*row_arrays(matrix, x[:num_rows]), *arrays, out)
        np.testing.assert_array_equal(out, expected[:num_rows])


@pytest.mark.parametrize("name", ["int4_g32_i5", "int8_row", "int4_row"])
@pytest.mark.parametrize(("outputs", "inputs"), [(50, 96), (16, 320)])
def test_whole_rows(machine: Machine, name: str, outputs: int, inputs: int) -> None:
    """One exact sum a row, scaled once: every bit is the interpreter's, by tiles of rows and by panels."""
    matrix = CodedMatrix(outputs, inputs, find_format(name))
    kernel = machine.build(linear_quantized(with_panels(machine.isa, 20), "kernel", matrix, True))
    random = np.random.default_rng(outputs)
    weight = quantize(random.standard_normal((outputs, inputs), np.float32), matrix.format)
    bias = random.standard_normal(outputs, np.float32)
    arrays = [*pack(weight, Layout.BLOCKED), *pack(bias, Layout.PADDED)]
    x = quantize(random.standard_normal((70, inputs), np.float32), row_format(matrix))
    (meant,) = find_operator("linear").evaluate([x, weight], {}, {})
    np.testing.assert_allclose(meant, dequantize(x) @ dequantize(weight).T, rtol=1e-3, atol=1e-3)
    zeros = np.zeros_like(arrays[-1])
    together = filled((70, outputs), "float32")
    kernel(*row_arrays(matrix, x), *arrays, together)
    np.testing.assert_allclose(together, np.asarray(meant) + bias, rtol=1e-6, atol=1e-5)
    for num_rows in (1, 2, 3, 4, 7, 8, 15, 16, 17, 23, 24, 33):
        out = filled((num_rows, outputs), "float32")
        kernel(*row_arrays(matrix, x[:num_rows]), *arrays, out)
        np.testing.assert_array_equal(out, together[:num_rows])
        kernel(*row_arrays(matrix, x[:num_rows]), *arrays[:-1], zeros, out)
        np.testing.assert_array_equal(out, np.asarray(meant)[:num_rows])


@pytest.mark.parametrize("name", ["int8_g32", "int4_g32", "int8_row", "int4_g32_i5"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_products_do_not_saturate(machine: Machine, name: str, sign: int) -> None:
    element, num_rows = find_format(name), 40
    matrix = CodedMatrix(20, 64, element)
    kernel = machine.build(linear_quantized(with_panels(machine.isa, 20), "kernel", matrix, False))
    codes = np.full((20, 64), element.codes.smallest, np.int8)
    codes[::2] = element.codes.largest
    codes[1::4, ::3] = element.codes.largest
    ones = {
        c.name: np.ones((20, 1 if c.size is None else 64 // c.size), c.dtype) for c in element.components[1:]
    }
    if element.has_whole_scales:
        ones["scales"][:] = 15
        ones["scales"][10:] = -15
    weight = QuantizedArray(element, codes, **ones)
    x = np.full((num_rows, 64), 127 * sign, np.int8)
    x[1::3] = -127
    x[2::3, ::2] *= -1
    scales = np.ones((num_rows, 64 // (row_format(matrix).group_size or 64)), np.float32)
    out = filled((num_rows, 20), "float32")
    rows = QuantizedArray(row_format(matrix), x, scales)
    kernel(*row_arrays(matrix, rows), *pack(weight, Layout.BLOCKED), out)
    whole = codes.astype(np.int32) * (
        ones["scales"][:, :1].astype(np.int32) if element.has_whole_scales else 1
    )
    np.testing.assert_array_equal(out, x.astype(np.int32) @ whole.T)
    few = filled((3, 20), "float32")
    kernel(*row_arrays(matrix, rows[:3]), *pack(weight, Layout.BLOCKED), few)
    np.testing.assert_array_equal(few, out[:3])


def test_a_row_that_is_no_number_harms_no_other(machine: Machine) -> None:
    kernel = machine.build(
        linear_float(machine.isa, "kernel", FloatMatrix(18, 8, "float32"), Rows.dense(8), False)
    )
    random = np.random.default_rng(2)
    (weight,) = pack(random.standard_normal((18, 8), np.float32), Layout.BLOCKED)
    x = random.standard_normal((11, 8), np.float32)
    whole, poisoned = filled((11, 18), "float32"), filled((11, 18), "float32")
    kernel(x, weight, whole)
    x[5, 3] = np.inf
    kernel(x, weight, poisoned)
    others = np.arange(11) != 5
    assert not np.isfinite(poisoned[5]).any()
    np.testing.assert_array_equal(poisoned[others], whole[others])
