"""Products by weights in every kind of format, and rows of tables in them, as the interpreter means them."""

from __future__ import annotations

import numpy as np
import pytest
from ingot.codegen.kernels.coded import CodedMatrix
from ingot.codegen.kernels.layout import Layout, pack
from ingot.codegen.kernels.linear import linear_quantized
from ingot.codegen.kernels.linear_float import linear_float
from ingot.codegen.kernels.pointwise import embedding
from ingot.codegen.kernels.rows import Rows
from ingot.ir import dequantize, find_format, find_operator, quantize

from .machines import Machine, filled
from .row_arrays import row_arrays, row_format

OFTEN = ("int3_g32", "int4_g32_i5", "int8_row_z", "q5_k", "nvfp4")
SELDOM = (
    *("int2_g32", "int5_g32", "int7_g32", "int4_g16", "int6_g64", "int8_row", "int8_g128_z", "int4_g64_z"),
    *("int4_g64_i5", "int3_g32_i5", "int2_g128_i5", "int4_row"),
    *(
        "q5_0",
        "q4_1",
        "q5_1",
        "q2_k",
        "q3_k",
        "q4_k",
        "q6_k",
        "iq4_nl",
        "iq4_xs",
        "mxfp4",
        "int3_g64_fz_bf16",
    ),
)
FLOATS_OFTEN = ("fp8_e4m3_g128", "int4_g32_fz", "int8_row")
FLOATS_SELDOM = (
    *("fp8_e5m2_row", "fp8_e4m3_g32_e8m0", "nf4_g64", "nf4_g16_f16", "int3_g8"),
    *("q5_1", "q4_k", "q6_k", "mxfp4", "nvfp4", "int4_g32_i5"),
)
EVERY = (*OFTEN, *SELDOM, *FLOATS_OFTEN, *FLOATS_SELDOM)
COUNTS = (1, 3, 8, 13, 21)


def seldom(names: tuple[str, ...]) -> list[object]:
    """Formats that differ from those always tried in numbers only."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", [*OFTEN, *seldom(SELDOM)])
def test_codes(machine: Machine, name: str) -> None:
    """A row has the same bits whatever rows are beside it; sums of codes may be of less than is needed."""
    outputs, inputs, element = 35, 512, find_format(name)
    matrix = CodedMatrix(outputs, inputs, element, 16 if name in ("q5_k", "int4_g64_z") else 0)
    kernel = machine.build(linear_quantized(machine.isa, "kernel", matrix, False))
    random = np.random.default_rng(outputs)
    weight = quantize(random.standard_normal((outputs, inputs), np.float32) + np.float32(0.5), element)
    arrays = pack(weight, Layout.BLOCKED)
    x = quantize(random.standard_normal((max(COUNTS), inputs), np.float32), row_format(matrix))
    (meant,) = find_operator("linear").evaluate([x, weight], {}, {})
    np.testing.assert_allclose(meant, dequantize(x) @ dequantize(weight).T, rtol=1e-3, atol=1e-3)
    first = filled((1, outputs), "float32")
    for num_rows in COUNTS:
        out = filled((num_rows, outputs), "float32")
        kernel(*row_arrays(matrix, x[:num_rows]), *arrays, out)
        np.testing.assert_allclose(out, np.asarray(meant)[:num_rows], rtol=1e-4, atol=1e-3)
        first = out[:1] if num_rows == 1 else first
        np.testing.assert_array_equal(out[:1], first)


@pytest.mark.parametrize("name", [*FLOATS_OFTEN, *seldom(FLOATS_SELDOM)])
def test_floats(machine: Machine, name: str) -> None:
    """Rows that stay floats, where codes are no whole numbers or a row is no whole groups of 32."""
    element = find_format(name)
    inputs = 512 if element.block_size > 32 else 80 if element.block_size > 1 else 87
    inputs = 96 if element.block_size == 32 else inputs
    outputs, view = 35, Rows(inputs, inputs + 9, 4)
    matrix = CodedMatrix(outputs, inputs, element)
    kernel = machine.build(linear_float(machine.isa, "kernel", matrix, view, False))
    random = np.random.default_rng(outputs)
    weight = quantize(random.standard_normal((outputs, inputs), np.float32) + np.float32(0.5), element)
    x = np.full((max(COUNTS), view.stride), np.nan, np.float32)
    rows = x[:, 4 : 4 + inputs]
    rows[...] = random.standard_normal(rows.shape)
    (meant,) = find_operator("linear").evaluate([rows, weight], {}, {})
    first = filled((1, outputs), "float32")
    for num_rows in COUNTS:
        out = filled((num_rows, outputs), "float32")
        kernel(x[:num_rows], *pack(weight, Layout.BLOCKED), out)
        np.testing.assert_allclose(out, np.asarray(meant)[:num_rows], rtol=1e-4, atol=1e-4)
        first = out[:1] if num_rows == 1 else first
        np.testing.assert_array_equal(out[:1], first)


@pytest.mark.parametrize("name", ["q5_k", *seldom(tuple(dict.fromkeys(EVERY)))])
def test_embedding(machine: Machine, name: str) -> None:
    """Rows of a table, to the last bit but one, since a product and a sum may be rounded once."""
    element = find_format(name)
    inputs = 256 if element.block_size > 1 else 87
    kernel = machine.build(embedding(machine.isa, "kernel", CodedMatrix(45, inputs, element)))
    table = quantize(np.random.default_rng(0).standard_normal((45, inputs), np.float32), element)
    token_ids = np.array([44, 0, 16, 15, 31, 7], np.int32)
    out = filled((len(token_ids), inputs), "float32")
    kernel(*pack(table, Layout.BLOCKED), token_ids, out)
    np.testing.assert_allclose(out, dequantize(table)[token_ids], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("type_", ["e4m3", "e5m2"])
def test_every_float_of_eight_bits(machine: Machine, type_: str) -> None:
    """All there are but those that are no finite numbers, subnormal ones and zeros with a sign too."""
    element = find_format(f"fp8_{type_}_row")
    values = element.codes.values
    codes = np.arange(256, dtype=np.uint8)
    codes[~np.isfinite(values)] = 0
    table = quantize(np.zeros((256, 3), np.float32), element).map(
        lambda array: np.repeat(codes[:, None], 3, axis=1) if array.shape[1] == 3 else np.ones_like(array)
    )
    kernel = machine.build(
        linear_float(machine.isa, "kernel", CodedMatrix(256, 3, element), Rows.dense(3), False)
    )
    out = filled((3, 256), "float32")
    kernel(np.eye(3, dtype=np.float32), *pack(table, Layout.BLOCKED), out)
    np.testing.assert_array_equal(out, np.tile(values[codes], (3, 1)))
