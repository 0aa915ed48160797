"""Formats: what rounding may cost, and what the declared fields promise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ingot.ir import FORMATS, IRError, QuantFormat, QuantizedArray, dequantize, find_format, quantize
from ingot.ir.types import TensorType

ROWS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.sampled_from([32, 96])),
    elements=st.floats(-100, 100, width=32).map(lambda x: x if abs(x) > 1e-3 else 0.0),
)
Rows = npt.NDArray[np.float32]


def groups(rows: Rows, quant_format: QuantFormat) -> Rows:
    return rows.reshape(*rows.shape[:-1], -1, quant_format.group_size)


@pytest.mark.parametrize("quant_format", FORMATS.values(), ids=FORMATS)
@settings(max_examples=40)
@given(rows=ROWS)
def test_rounding_costs_half_a_step(quant_format: QuantFormat, rows: Rows) -> None:
    array = quantize(rows, quant_format)
    assert array.codes.dtype == np.int8
    assert array.codes.min() >= quant_format.smallest
    assert array.codes.max() <= quant_format.largest
    assert array.scales.dtype == quant_format.scale_type
    assert array.scales.shape == (*rows.shape[:-1], rows.shape[-1] // quant_format.group_size)
    assert array.shape == rows.shape
    error = np.abs(groups(rows - dequantize(array), quant_format))
    step = np.abs(groups(rows, quant_format)).max(axis=-1, keepdims=True) / quant_format.largest
    if quant_format.search_steps:  # a searched scale may clip the peak for the sake of the others
        assert (error <= step * 1.5).all()
        assert (np.sqrt((error**2).mean(axis=-1)) <= step[..., 0] * 0.6).all()
    else:
        assert (error <= step * 0.501).all()


def quantize_plainly(rows: Rows, quant_format: QuantFormat) -> Rows:
    """Largest magnitude over the largest code: the rounding that searching must not be worse than."""
    parts = groups(rows, quant_format)
    scales = (np.abs(parts).max(axis=-1, keepdims=True) / quant_format.largest).astype(
        quant_format.scale_type
    )
    wide = scales.astype(np.float32)
    codes = np.rint(np.divide(parts, wide, out=np.zeros_like(parts), where=wide != 0))
    result: Rows = (np.clip(codes, quant_format.smallest, quant_format.largest) * wide).reshape(rows.shape)
    return result


@pytest.mark.parametrize("quant_format", FORMATS.values(), ids=FORMATS)
@settings(max_examples=40)
@given(rows=ROWS)
def test_what_is_representable_stays(quant_format: QuantFormat, rows: Rows) -> None:
    once = dequantize(quantize(rows, quant_format))
    twice = dequantize(quantize(once, quant_format))
    peak = np.abs(groups(once, quant_format)).max(axis=-1, keepdims=True)
    difference = np.abs(groups(once - twice, quant_format))
    assert (difference <= peak * 2.0 ** -(quant_format.bits - 1)).all()


def test_searching_is_worth_it_in_four_bits() -> None:
    rows = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    four = find_format("int4_g32")
    searched = np.square(rows - dequantize(quantize(rows, four))).mean()
    plain = np.square(rows - quantize_plainly(rows, four)).mean()
    assert searched < 0.8 * plain


def test_zeros_stay_zeros() -> None:
    for quant_format in FORMATS.values():
        array = quantize(np.zeros((2, 64), np.float32), quant_format)
        assert not array.codes.any()
        assert np.isfinite(array.scales).all()
        assert not dequantize(array).any()


def test_bits_per_element_count_the_scale() -> None:
    assert find_format("int4_g32").bits_per_element == 4.5
    assert find_format("int8_g32").bits_per_element == 8.5
    assert find_format("dynamic_int8_g32").bits_per_element == 9.0
    assert (find_format("int4_g32").smallest, find_format("int4_g32").largest) == (-8, 7)


def test_unknown_formats_are_refused_with_those_there_are() -> None:
    with pytest.raises(IRError, match="'int3_g32'; formats: int4_g32, int8_g32, dynamic_int8_g32"):
        find_format("int3_g32")


@pytest.mark.parametrize("shape", [(), (33,), (64, "tokens")])
def test_a_types_last_dimension_is_whole_groups(shape: tuple[int | str, ...]) -> None:
    with pytest.raises(IRError, match="multiple of its group size 32"):
        TensorType(shape, find_format("int4_g32"))


def test_a_quantized_array_has_its_logical_shape() -> None:
    codes = np.zeros((3, 32), np.int8)
    array = QuantizedArray(find_format("int8_g32"), codes, np.ones((3, 1), np.float16))
    assert array.shape == (3, 32)
