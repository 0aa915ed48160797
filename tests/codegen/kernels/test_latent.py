"""Heads' own matrices and the cache of latents on every machine, against the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from ingot.codegen.kernels.append import append_to_pages
from ingot.codegen.kernels.cache import CachedHeads, FloatElement
from ingot.codegen.kernels.code_products import rows_for
from ingot.codegen.kernels.coded import CodedMatrix
from ingot.codegen.kernels.float_product import FloatMatrix
from ingot.codegen.kernels.latent import head_linear_float, head_linear_quantized
from ingot.codegen.kernels.layout import Layout, pack
from ingot.codegen.kernels.quantize import quantize_rows
from ingot.codegen.kernels.rows import Rows
from ingot.ir import find_format, find_operator, quantize

from .machines import Machine, filled
from .row_arrays import row_format, with_panels


@pytest.mark.parametrize(("heads", "outputs", "inputs"), [(3, 26, 14), (2, 32, 7), (5, 9, 33)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_each_head_has_a_matrix_of_its_own(
    machine: Machine, heads: int, outputs: int, inputs: int, dtype: str
) -> None:
    random = np.random.default_rng(heads)
    weight = random.standard_normal((heads, outputs, inputs)).astype(dtype)
    packed = np.concatenate([pack(matrix, Layout.BLOCKED)[0] for matrix in weight])
    view = Rows(heads * inputs, heads * inputs + 5, 3)
    kernel = machine.build(
        head_linear_float(machine.isa, "kernel", heads, FloatMatrix(outputs, inputs, dtype), view)
    )
    rows = random.standard_normal((23, view.stride), np.float32)
    out = filled((23, heads * outputs), "float32")
    kernel(rows, packed, out)
    x = rows[:, view.offset : view.offset + view.width].reshape(23, heads, inputs)
    (expected,) = find_operator("head_linear").evaluate([x, weight], {}, {})
    np.testing.assert_allclose(out.reshape(23, heads, outputs), np.asarray(expected), rtol=1e-4, atol=1e-4)
    for count in (1, 2, 7):
        alone = filled((count, heads * outputs), "float32")
        kernel(np.ascontiguousarray(rows[:count]), packed, alone)
        np.testing.assert_array_equal(alone, out[:count])


@pytest.mark.parametrize("quant_format", ["int8_g32", "int4_g32", "int4_g32_i5"])
def test_each_head_has_codes_of_its_own(machine: Machine, quant_format: str) -> None:
    heads, outputs, inputs, num_rows = 3, 26, 64, 23
    random = np.random.default_rng(heads)
    weight = quantize(random.standard_normal((heads, outputs, inputs), np.float32), find_format(quant_format))
    packed = [pack(weight[head], Layout.BLOCKED) for head in range(heads)]
    matrix = CodedMatrix(outputs, inputs, weight.format)
    view = Rows.dense(heads * inputs)
    layout = rows_for(matrix, heads)
    rounding = machine.build(quantize_rows(machine.isa, "kernel", view, layout))
    kernel = machine.build(head_linear_quantized(with_panels(machine.isa, 16), "kernel", heads, matrix))
    rows = random.standard_normal((num_rows, view.width), np.float32)

    def run(count: int) -> np.ndarray:
        rounded = [filled((count, columns), dtype) for _, columns, dtype in layout.columns]
        out = filled((count, heads * outputs), "float32")
        rounding(np.ascontiguousarray(rows[:count]), *rounded)
        kernel(*rounded, *(np.concatenate(parts) for parts in zip(*packed, strict=True)), out)
        return out

    x = quantize(rows.reshape(num_rows, heads, inputs), row_format(matrix))
    (expected,) = find_operator("head_linear").evaluate([x, weight], {}, {})
    together = run(num_rows)
    np.testing.assert_allclose(
        together.reshape(num_rows, heads, outputs), np.asarray(expected), rtol=1e-5, atol=1e-4
    )
    for count in (1, 2, 7):
        np.testing.assert_array_equal(run(count), together[:count])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_latents_reach_their_slots(machine: Machine, dtype: str) -> None:
    pages, page_size, view = 4, 16, Rows(27, 31, 2)
    heads = CachedHeads(FloatElement(dtype), 1, view.width, page_size, by_column=True)
    kernel = machine.build(append_to_pages(machine.isa, "kernel", (heads, view)))
    random = np.random.default_rng(3)
    rows = random.standard_normal((9, view.stride), np.float32)
    slots = random.permutation(pages * page_size)[:9].astype(np.int32)
    cache = random.standard_normal((pages, 1, page_size, view.width)).astype(dtype)
    latents = rows[:, view.offset : view.offset + view.width]
    (expected,) = find_operator("append_latents").evaluate([cache, latents, slots], {}, {})
    stored = np.ascontiguousarray(cache.transpose(0, 1, 3, 2))
    kernel(stored, rows, slots)
    np.testing.assert_array_equal(stored.transpose(0, 1, 3, 2), np.asarray(expected))
