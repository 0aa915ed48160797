"""Formats: what rounding may cost, what the declared fields promise, and what GGUF files hold."""

from __future__ import annotations

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ingot.ir import (
    FORMATS,
    IRError,
    QuantFormat,
    QuantizedArray,
    dequantize,
    find_format,
    pack_blocks,
    quantize,
    unpack_blocks,
)
from ingot.ir.quantization import BLOCK_LAYOUTS, Integers
from ingot.ir.types import TensorType, parse_element

Rows = npt.NDArray[np.float32]

SYMMETRIC = [
    find_format(name) for name in ("int4_g32", "int8_g32", "dynamic_int8_g32", "int3_g32", "int6_g32")
]
FAMILIES = (
    *("int2_g32", "int3_g64_f32", "int4_g128_z", "int8_row", "int5_g32_bf16", "int8_row_z", "int4_g64_fz"),
    *("fp8_e4m3_g128", "fp8_e5m2_row", "fp8_e4m3_g32_e8m0", "nf4_g64", "nf4_g64_f16", "fp4_g64"),
    "dynamic_fp8_e4m3_row",
)
ALL = [find_format(name) for name in (*FORMATS, *FAMILIES)]
ROWS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.sampled_from([32, 96])),
    elements=st.floats(-100, 100, width=32).map(lambda x: x if abs(x) > 1e-3 else 0.0),
)


def by_name(element: QuantFormat) -> str:
    return element.name


def normal(*shape: int) -> Rows:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def squared_error(values: Rows, array: QuantizedArray) -> float:
    return float(np.square((values - dequantize(array)).astype(np.float64)).sum())


def groups(rows: Rows, element: QuantFormat) -> Rows:
    return rows.reshape(*rows.shape[:-1], -1, element.group_size)


@pytest.mark.parametrize("element", SYMMETRIC, ids=by_name)
@settings(max_examples=20)
@given(rows=ROWS)
def test_rounding_costs_half_a_step(element: QuantFormat, rows: Rows) -> None:
    array = quantize(rows, element)
    assert isinstance(element.codes, Integers)
    assert array.codes.min() >= element.codes.smallest
    assert array.codes.max() <= element.codes.largest
    assert array.shape == rows.shape
    error = np.abs(groups(rows - dequantize(array), element))
    step = np.abs(groups(rows, element)).max(axis=-1, keepdims=True) / element.codes.largest
    if element.name.startswith("dynamic"):
        assert (error <= step * 0.501).all()
    else:  # a searched scale may clip the peak for the sake of the others
        assert (error <= step * 1.5).all()
        assert (np.sqrt((error**2).mean(axis=-1)) <= step[..., 0] * 0.6).all()


def quantize_plainly(rows: Rows, element: QuantFormat) -> Rows:
    """Rounding without a search, which must not be better: the codes spread over each group's values."""
    parts = groups(rows, element)
    assert isinstance(element.codes, Integers)
    if element.offset is not None:
        least = np.minimum(parts.min(axis=-1, keepdims=True), 0)
        steps = (parts.max(axis=-1, keepdims=True) - least) / element.codes.largest
        return (np.rint((parts - least) / steps) * steps + least).reshape(rows.shape)
    steps = np.abs(parts).max(axis=-1, keepdims=True) / element.codes.largest
    return (np.rint(parts / steps) * steps).reshape(rows.shape)


@pytest.mark.parametrize("element", SYMMETRIC, ids=by_name)
@settings(max_examples=20)
@given(rows=ROWS)
def test_what_is_representable_stays(element: QuantFormat, rows: Rows) -> None:
    once = dequantize(quantize(rows, element))
    twice = dequantize(quantize(once, element))
    peak = np.abs(groups(once, element)).max(axis=-1, keepdims=True)
    difference = np.abs(groups(once - twice, element))
    assert (difference <= peak * 2.0 ** -(element.bits - 1)).all()


@pytest.mark.parametrize(
    ("name", "share"),
    [
        *(("int2_g32", 0.5), ("int4_g32", 0.8), ("int4_g128_z", 1.0), ("int2_g32_z", 0.8)),
        *(("q3_k", 0.8), ("q6_k", 0.85), ("q2_k", 0.9), ("q4_k", 1.0), ("q5_k", 1.0)),
    ],
)
def test_searching_is_worth_it(name: str, share: float) -> None:
    """Scales of super-blocks have few bits, and yet no format loses to plain rounding with scales of 32."""
    rows, element = normal(64, 256), find_format(name)
    plain = np.square(rows - quantize_plainly(rows, element)).sum()
    assert squared_error(rows, quantize(rows, element)) < share * plain


@pytest.mark.parametrize("name", ["int4_g32", "q4_k", "q3_k", "iq4_nl", "int4_g32_z"])
def test_weights_say_which_columns_matter(name: str) -> None:
    rows, element = normal(32, 256), find_format(name)
    weights = np.ones(256, np.float32)
    weights[::8] = 50
    alike, weighted = (dequantize(quantize(rows, element, w)) for w in (None, weights))
    error, error_weighted = (float((np.square(rows - found) * weights).sum()) for found in (alike, weighted))
    assert error_weighted < 0.8 * error
    with pytest.raises(IRError, match="weights for"):
        quantize(rows, element, weights[1:])


@pytest.mark.parametrize("element", ALL, ids=by_name)
def test_zeros_stay_zeros_and_all_else_stays_near(element: QuantFormat) -> None:
    zeros = quantize(np.zeros((2, 256), np.float32), element)
    assert all(np.isfinite(array.astype(np.float32)).all() for array in zeros.components.values())
    assert not dequantize(zeros).any()
    rows = normal(3, 5, 256)
    array = quantize(rows, element)
    assert array.shape == rows.shape
    assert [component.name for component in element.components] == list(array.components)
    precision = {"fp8_e4m3": 5, "fp8_e5m2": 4}.get(element.name.removeprefix("dynamic_")[:8], element.bits)
    assert squared_error(rows, array) < 4.0 ** (1 - precision) * np.square(rows).sum()
    np.testing.assert_array_equal(dequantize(array[1]), dequantize(array)[1])
    assert find_format(element.name) is element
    assert parse_element(str(TensorType((2, 256), element)).partition("[")[0]) is element


@pytest.mark.parametrize("name", BLOCK_LAYOUTS)
def test_blocks_of_gguf_mean_what_gguf_says(name: str) -> None:
    """Random bytes, though no scale that is no number."""
    layout = BLOCK_LAYOUTS[name]
    raw = np.random.default_rng(1).integers(0, 256, (7, 5 * layout.num_bytes), np.uint8)
    for bits in layout.bits:
        if bits.width == 16:
            raw.reshape(7, 5, -1)[..., bits.start + 1] &= 0xBF
        elif name == "mxfp4" and bits.component == "scales":
            raw.reshape(7, 5, -1)[..., bits.start] %= 250
    array = unpack_blocks(name, raw)
    found = dequantize(array)
    expected = gguf.quants.dequantize(raw, GGMLQuantizationType[name.upper()])
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    np.testing.assert_array_equal(pack_blocks(array), raw)
    assert array.format.bits_per_element == 8 * layout.num_bytes / layout.size


@pytest.mark.parametrize("name", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "mxfp4"])
def test_rounding_gives_the_bytes_that_ggml_gives(name: str) -> None:
    rows = normal(64, 512) * np.exp(normal(64, 1) * 3)
    rows[3, :32] = 0
    rows[4, 32:64] = -1.5
    rows[5] = np.rint(rows[5] * 4) / 4  # ties
    with np.errstate(all="ignore"):
        expected = gguf.quants.quantize(rows, GGMLQuantizationType[name.upper()])
    np.testing.assert_array_equal(pack_blocks(quantize(rows, find_format(name))), expected)


def test_formats_say_which_rows_they_want_where_that_does_not_follow() -> None:
    assert find_format("fp8_e4m3_g128_a8").rows == "dynamic_fp8_e4m3_g128"
    assert find_format("fp8_e4m3_row").rows is None
    rows = find_format("dynamic_fp8_e4m3_row")
    assert find_format("fp8_e4m3_g128").multiplies(rows)
    assert not find_format("int8_row").multiplies(rows)
    assert not find_format("fp8_e4m3_row").multiplies(find_format("dynamic_int8_row"))


def test_bits_per_element_count_scales_and_offsets() -> None:
    assert find_format("int4_g32").bits_per_element == 4.5
    assert find_format("int8_g32").bits_per_element == 8.5
    assert find_format("dynamic_int8_g32").bits_per_element == 9.0
    assert find_format("int4_g128_z").bits_per_element == 4 + 24 / 128
    assert find_format("int8_row").bits_per_element == 8
    assert find_format("q2_k").bits_per_element == 2.625


@pytest.mark.parametrize(
    "name",
    [
        *(
            "int4",
            "int9_g32",
            "int4_g0",
            "int4_g32_f16",
            "fp8_e4m3_g128_z",
            "nf4_g64_e8m0",
            "q9_0",
            "INT4_g32",
        ),
        *("fp8_e5m2_row_a8", "int8_row_a8", "dynamic_fp8_e4m3_row_a8"),
    ],
)
def test_unknown_formats_are_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(IRError, match=f"'{name}'; formats: q4_0, .*dynamic_int8_g32.*int4_g32: 2 to 8 bits"):
        find_format(name)


@pytest.mark.parametrize(
    ("name", "shape"), [("int4_g32", ()), ("int4_g32", (33,)), ("q4_k", (32,)), ("int8_row", (64, "tokens"))]
)
def test_a_types_last_dimension_is_whole_blocks(name: str, shape: tuple[int | str, ...]) -> None:
    with pytest.raises(IRError, match="multiple of its block size"):
        TensorType(shape, find_format(name))


def test_a_quantized_array_has_its_logical_shape() -> None:
    codes = np.zeros((3, 32), np.int8)
    array = QuantizedArray(find_format("int8_g32"), codes, np.ones((3, 1), np.float16))
    assert array.shape == (3, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": np.zeros((3, 48), np.uint8)}, "no whole blocks of 32"),
        ({"scales": np.ones((3, 2), np.float16)}, r"scales of int4_g32_z\[3, 32\] must be float16 \[3, 1\]"),
        ({"scales": np.ones((3, 1), np.float32)}, "not float32"),
        ({"offsets": None}, "int4_g32_z needs offsets"),
        ({"super_scales": np.ones((3, 1), np.float16)}, "int4_g32_z has no super_scales"),
    ],
)
def test_arrays_that_do_not_fit_the_format_are_refused(change: dict[str, npt.NDArray], message: str) -> None:
    parts = {
        "codes": np.zeros((3, 32), np.uint8),
        "scales": np.ones((3, 1), np.float16),
        "offsets": np.zeros((3, 1), np.uint8),
        **change,
    }
    with pytest.raises(IRError, match=message):
        QuantizedArray(find_format("int4_g32_z"), **parts)


def test_bytes_that_are_no_whole_blocks_are_refused() -> None:
    with pytest.raises(IRError, match="no whole blocks of 18 bytes"):
        unpack_blocks("q4_0", np.zeros((2, 35), np.uint8))
    with pytest.raises(IRError, match="int4_g32 has no layout in blocks; q4_0, "):
        unpack_blocks("int4_g32", np.zeros((2, 18), np.uint8))
