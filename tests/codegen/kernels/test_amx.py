"""Products of tiles, whole and ragged; the instructions are emulated where this machine lacks them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from ingot.codegen.kernels.amx import (
    OF_BFLOAT16,
    OF_BYTES,
    TileOperands,
    TileProduct,
    multiply_tiles,
    release_tiles,
)
from ingot.codegen.kernels.coded import CodedMatrix
from ingot.codegen.kernels.float_product import FloatMatrix
from ingot.codegen.kernels.layout import Layout, pack
from ingot.codegen.kernels.linear import linear_quantized
from ingot.codegen.kernels.linear_float import linear_float
from ingot.codegen.kernels.rows import RoundedRows
from ingot.codegen.kernels.script import Buffer, T, kernel, load, store, symbol
from ingot.ir import find_format, quantize
from tvm import tirx

from .machines import Kernel, Machine, filled, find_machine
from .row_arrays import row_arrays, row_format

NUM_ROWS = [1, 7, 16, 17, 33, 49, 66, 115]
"""One to four tiles together, of five tiles three and two, of eight all; with and without rows left over."""


@pytest.fixture(scope="module")
def machine() -> Machine:
    found = find_machine("sapphirerapids")
    if isinstance(found, str):
        pytest.skip(found)
    return found


def build(machine: Machine, product: TileProduct, steps: int, blocks: int, stride: int) -> Kernel:
    """Rows ``[m, stride]`` times lines of weights ``[blocks, lines, 64 bytes]``, to sums ``[m, outputs]``."""
    dtype, size = ("int8", 1) if product == OF_BYTES else ("uint16", 2)
    m, width = symbol("m"), 64 // size

    def body(x: Buffer, weights: Buffer, out: Buffer) -> None:
        def finish(row: tirx.Expr, block: tirx.Expr, sums: tirx.Expr) -> None:
            store(out, (row, block * 16), sums, 16)

        operands = TileOperands(
            row=lambda row, step: T.address_of(load(x, (row, step * width))),
            row_stride=stride * size,
            weights=lambda block, step: T.address_of(load(weights, (block, step * 16, 0))),
            steps=steps,
            blocks=blocks,
            most_blocks=blocks,
        )
        with T.parallel(1):
            multiply_tiles(product, operands, m, finish)
            release_tiles()

    arguments = [
        ("x", (m, stride), dtype),
        ("weights", (blocks, steps * 16, width), dtype),
        ("out", (m, 16 * blocks), product.sums),
    ]
    return machine.build(kernel("kernel", arguments, body))


@pytest.mark.parametrize(("steps", "blocks"), [(1, 2), (19, 3)])
def test_sums_of_bytes_are_exact(machine: Machine, steps: int, blocks: int) -> None:
    inputs, stride = 64 * steps, 64 * (steps | 1)
    run = build(machine, OF_BYTES, steps, blocks, stride)
    random = np.random.default_rng(steps)
    x = random.integers(-127, 128, (max(NUM_ROWS), stride), np.int8)
    weights = random.integers(-127, 128, (blocks, inputs // 4, 16, 4), np.int8)
    x[0], weights[0, :, 0] = -127, -127
    matrix = weights.transpose(0, 2, 1, 3).reshape(16 * blocks, inputs)
    expected = x[:, :inputs].astype(np.int32) @ matrix.T.astype(np.int32)
    for num_rows in NUM_ROWS:
        out = filled((num_rows, 16 * blocks), "int32")
        run(x[:num_rows], weights.reshape(blocks, -1, 64), out)
        np.testing.assert_array_equal(out, expected[:num_rows])


@pytest.mark.parametrize(("steps", "blocks"), [(2, 1), (19, 2)])
def test_bfloat16_has_one_order_of_sums_at_every_number_of_rows(
    machine: Machine, steps: int, blocks: int
) -> None:
    inputs = 32 * steps
    run = build(machine, OF_BFLOAT16, steps, blocks, inputs)
    random = np.random.default_rng(steps)
    x = random.standard_normal((max(NUM_ROWS), inputs)).astype(ml_dtypes.bfloat16)
    weights = random.standard_normal((blocks, inputs // 2, 16, 2)).astype(ml_dtypes.bfloat16)
    matrix = weights.transpose(0, 2, 1, 3).reshape(16 * blocks, inputs)
    expected = multiplied(x, matrix)
    np.testing.assert_allclose(expected, x.astype(np.float32) @ matrix.T.astype(np.float32), atol=1e-3)
    for num_rows in NUM_ROWS:
        out = filled((num_rows, 16 * blocks), "float32")
        run(x[:num_rows].view(np.uint16), weights.view(np.uint16).reshape(blocks, -1, 32), out)
        np.testing.assert_array_equal(out, expected[:num_rows])


@pytest.mark.parametrize(("outputs", "inputs"), [(50, 43), (137, 160)])
def test_rows_of_bfloat16(machine: Machine, outputs: int, inputs: int) -> None:
    view, element = RoundedRows(inputs), FloatMatrix(outputs, inputs, "uint16")
    run = machine.build(linear_float(machine.isa, "kernel", element, view, True))
    random = np.random.default_rng(outputs)
    weight = random.standard_normal((outputs, inputs)).astype(ml_dtypes.bfloat16)
    bias = random.standard_normal(outputs, np.float32)
    x = np.zeros((70, view.stride), ml_dtypes.bfloat16)
    x[:, :inputs] = random.standard_normal((70, inputs))
    expected = multiplied(x[:, :inputs], weight) + bias
    arrays = [*pack(weight, Layout.BLOCKED), *pack(bias, Layout.PADDED)]
    for num_rows in (1, 16, 23, 70):
        out = filled((num_rows, outputs), "float32")
        run(x[:num_rows].view(np.uint16), *arrays, out)
        np.testing.assert_array_equal(out, expected[:num_rows])


def multiplied(x: npt.NDArray[np.generic], matrix: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Of every 32 inputs, the products of even ones by fused steps from zero, of odd ones, then both."""
    left, right = x.astype(np.float64), matrix.astype(np.float64)
    total = np.zeros((len(x), len(matrix)), np.float32)
    for first in range(0, x.shape[1], 32):
        chains = np.zeros((2, *total.shape), np.float32)
        for column in range(first, min(first + 32, x.shape[1])):
            # Such a product is exact in float64, and a float32 added to it nearly always is.
            product = left[:, column, None] * right[:, column]
            chains[column % 2] = (chains[column % 2] + product).astype(np.float32)
        total += chains[0] + chains[1]
    return total


@pytest.mark.parametrize("name", ["int4_g32_i5", "int8_row"])
@pytest.mark.parametrize(("outputs", "inputs"), [(50, 96), (150, 320)])
def test_panels_give_the_bits_of_dot_products(machine: Machine, name: str, outputs: int, inputs: int) -> None:
    matrix = CodedMatrix(outputs, inputs, find_format(name))
    random = np.random.default_rng(outputs)
    weight = quantize(random.standard_normal((outputs, inputs), np.float32), matrix.format)
    bias = random.standard_normal(outputs, np.float32)
    arrays = [*pack(weight, Layout.BLOCKED), *pack(bias, Layout.PADDED)]
    x = quantize(random.standard_normal((90, inputs), np.float32), row_format(matrix))
    other = find_machine("x86-64-v4-vnni")
    assert not isinstance(other, str)
    kernels = [m.build(linear_quantized(m.isa, "kernel", matrix, True)) for m in (machine, other)]
    for num_rows in (1, 15, 16, 37, 90):
        results = [filled((num_rows, outputs), "float32") for _ in kernels]
        for kernel_, out in zip(kernels, results, strict=True):
            kernel_(*row_arrays(matrix, x[:num_rows]), *arrays, out)
        np.testing.assert_array_equal(*results)
