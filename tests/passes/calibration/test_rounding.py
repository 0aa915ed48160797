"""GPTQ, AWQ and HQQ on single weights, against direct definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ingot.ir import dequantize, find_format, quantize
from ingot.ir.errors import CompileError
from ingot.passes.calibration.awq import search_scales
from ingot.passes.calibration.gptq import gptq, inverse_factor
from ingot.passes.calibration.grid import Grid
from ingot.passes.calibration.hqq import hqq

Array = npt.NDArray[Any]
FORMATS = [
    "int4_g32",
    "int4_g32_i5",
    "int3_g32",
    "int4_row",
    "int4_g32_z",
    "q4_0",
    "q4_k",
    "nf4_g64",
    "mxfp4",
    "nvfp4",
]


def layer(outputs: int = 24, inputs: int = 256, rows: int = 400) -> tuple[Array, Array]:
    """A weight, and inputs that have to do with each other, some of them large."""
    generator = np.random.default_rng(7)
    mixing = generator.normal(size=(inputs, inputs)) / np.sqrt(inputs)
    x = generator.normal(size=(rows, inputs)) @ (mixing + np.eye(inputs))
    x *= np.exp(generator.normal(size=inputs))
    weight = generator.normal(size=(outputs, inputs))
    return weight.astype(np.float32), x.astype(np.float32)


def output_error(weight: Array, rounded: Array, x: Array) -> float:
    return float(np.square(x @ (weight - rounded).T).sum() / np.square(x @ weight.T).sum())


def one_column_after_the_other(weight: Array, gram: Array, name: str) -> Array:
    """Optimal Brain Quantization in a fixed order, as it is defined: the inverse of the matrix that is left
    is computed anew for each column.
    """
    quant_format = find_format(name)
    gram = gram.astype(np.float64)
    gram = gram + np.eye(len(gram)) * 0.01 * np.diag(gram).mean()
    left, result = weight.astype(np.float64), np.zeros_like(weight, np.float64)
    span = quant_format.scale.largest_size or weight.shape[1]
    for column in range(weight.shape[1]):
        if column % span == 0:
            columns = slice(column, column + span)
            importance = np.diag(gram)[columns] - 0.01 * np.diag(gram).mean() / 1.01
            grid = Grid(quantize(left[:, columns].astype(np.float32), quant_format, importance))
        _, values = grid.round(left[:, column].astype(np.float32), column % span)
        inverse = np.linalg.inv(gram[column:, column:])
        error = left[:, column] - values
        left[:, column:] -= error[:, None] * inverse[0] / inverse[0, 0]
        result[:, column] = values
    return result


@pytest.mark.parametrize("name", ["int4_g32", "int4_row", "q4_0"])
def test_gptq_is_optimal_brain_quantization_in_a_fixed_order(name: str) -> None:
    weight, x = layer(outputs=8, inputs=96)
    gram = (x.T @ x) / len(x)
    found = dequantize(gptq(weight, gram, find_format(name)))
    naive = one_column_after_the_other(weight, gram, name)
    agreeing = np.isclose(found, naive, rtol=1e-3, atol=1e-4).mean()
    assert agreeing > 0.97  # a weight halfway between two values goes either way, and others after it
    assert output_error(weight, found, x) == pytest.approx(output_error(weight, naive, x), rel=0.05)


@pytest.mark.parametrize("name", FORMATS)
def test_gptq_has_less_error_than_rounding_to_the_nearest(name: str) -> None:
    weight, x = layer()
    quant_format = find_format(name)
    found = gptq(weight, x.T @ x, quant_format)
    assert found.format is quant_format
    nearest = dequantize(quantize(weight, quant_format))
    assert output_error(weight, dequantize(found), x) < 0.7 * output_error(weight, nearest, x)


def test_importance_lowers_the_error_that_counts() -> None:
    weight, x = layer()
    quant_format = find_format("int4_g32")
    nearest, important = (
        dequantize(quantize(weight, quant_format, w)) for w in (None, np.square(x).mean(axis=0))
    )
    assert output_error(weight, important, x) < 0.9 * output_error(weight, nearest, x)
    assert np.square(weight - important).sum() > np.square(weight - nearest).sum()


def test_columns_that_no_input_reaches_are_zero() -> None:
    weight, x = layer(inputs=64)
    x[:, 5] = 0
    found = dequantize(gptq(weight, x.T @ x, find_format("int8_g32")))
    assert np.all(np.abs(found[:, 5]) < 1e-6)
    assert output_error(weight, found, x) < 1e-3


def test_the_factor_is_of_the_inverse() -> None:
    _, x = layer(inputs=150)
    gram = x.T @ x
    factor = inverse_factor(gram)
    damped = gram.astype(np.float64) + np.eye(150) * 0.01 * np.diag(gram).mean()
    np.testing.assert_allclose(factor.T @ factor, np.linalg.inv(damped), rtol=1e-4, atol=1e-9)
    assert np.array_equal(factor, np.triu(factor))


def test_awq_scales_lower_the_error_of_all_weights_together() -> None:
    weight, x = layer()
    other, _ = layer(outputs=40)
    formats = [find_format("int3_g32")] * 2
    scales = search_scales([weight, other], formats, x, np.abs(x).mean(axis=0))
    assert scales is not None
    assert scales.max() / scales.min() > 1.5
    square = np.square(x).mean(axis=0)

    def error(scales: Array) -> float:
        return sum(
            output_error(w, dequantize(quantize(w * scales, formats[0], square / scales**2)) / scales, x)
            for w in (weight, other)
        )

    assert error(scales) < error(np.ones_like(scales))


def test_awq_leaves_alone_what_scales_do_not_help() -> None:
    weight, _ = layer()
    x = np.sign(np.random.default_rng(1).normal(size=(100, 256))).astype(np.float32)
    assert search_scales([weight], [find_format("int8_g32")], x, np.ones(256, np.float32)) is None


@pytest.mark.parametrize("name", ["int4_g64_fz", "int3_g32_fz", "int4_g32_z"])
def test_hqq_lowers_its_norm_and_follows_the_reference(name: str) -> None:
    generator = np.random.default_rng(3)
    weight = (generator.standard_t(3, size=(16, 128)) + 0.3).astype(np.float32)
    quant_format = find_format(name)

    def norm(values: Array) -> float:
        return float((np.abs(weight - values) ** 0.7).sum())

    found = dequantize(hqq(weight, quant_format))
    groups = weight.reshape(16, -1, quant_format.group_size)
    largest = quant_format.codes.largest
    low, high = groups.min(axis=-1, keepdims=True), groups.max(axis=-1, keepdims=True)
    scale = (high - low) / largest
    zero = np.rint(-low / scale) if name.endswith("_z") else -low / scale
    plain = ((np.clip(np.rint(groups / scale + zero), 0, largest) - zero) * scale).reshape(weight.shape)
    # Whole zero points leave little to choose.
    assert norm(found) < (1.01 if name.endswith("_z") else 0.98) * norm(plain)
    if name.endswith("_fz"):
        sharpness, best = 10.0, np.inf
        for _ in range(20):
            codes = np.clip(np.rint(groups / scale + zero), 0, largest)
            error = groups - (codes - zero) * scale
            best = min(best, float((np.abs(error) ** 0.7).sum()))
            kept = np.sign(error) * np.maximum(
                np.abs(error) - np.maximum(np.abs(error), 1e-8) ** -0.3 / sharpness, 0
            )
            zero = (codes - (groups - kept) / scale).mean(axis=-1, keepdims=True)
            sharpness *= 1.01
        assert norm(found) < 1.01 * best


def test_hqq_keeps_groups_of_one_value_and_refuses_formats_without_zero_points() -> None:
    weight = np.repeat(np.array([[0.0, 2.5, -3.25]], np.float32), 32, axis=1).repeat(2, axis=0)
    np.testing.assert_allclose(dequantize(hqq(weight, find_format("int4_g32_fz"))), weight, rtol=1e-3)
    with pytest.raises(CompileError, match="zero points, which int4_g32 does not have"):
        hqq(weight, find_format("int4_g32"))
