"""What layers with a state compute: over a whole sequence, and over slots of state page by page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingot.ir import Array, Attribute, GraphBuilder, IRError, TensorType, find_operator, parse_element

Floats = npt.NDArray[np.float32]
PAGE_SIZE = 4


def rows(*shape: int) -> Floats:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def run(operator: str, *operands: Array, **attributes: Attribute) -> list[Floats]:
    return [np.asarray(x) for x in find_operator(operator).evaluate(operands, attributes, {})]


def test_causal_convolution() -> None:
    x, weight, bias = rows(9, 5), rows(3, 5), rows(5)
    (found,) = run("causal_conv", x, weight, bias)
    for token in range(9):
        seen = range(max(0, token - 2), token + 1)
        expected = sum(x[other] * weight[other - token + 2] for other in seen) + bias
        np.testing.assert_allclose(found[token], expected, rtol=1e-5, atol=1e-6)


def scanned() -> list[Floats]:
    """Operands of a scan over 11 tokens: 6 heads of 5 elements, 2 groups of 3."""
    decay = -np.exp(rows(6))
    return [rows(11, 6, 5), 3 * rows(11, 6), rows(11, 2, 3), 2 * rows(11, 2, 3), decay, rows(6) + 1, -rows(6)]


def test_selective_scan() -> None:
    """The state is the sum of what each token wrote, less what has decayed since."""
    x, steps, b, c, decay, skip, bias = operands = scanned()
    (found,) = run("selective_scan", *operands)
    times = np.log1p(np.exp((steps + bias).astype(np.float64)))
    for token in range(11):
        for head in range(6):
            expected = skip[head] * x[token, head].astype(np.float64)
            for other in range(token + 1):
                kept = np.exp(times[other + 1 : token + 1, head].sum() * decay[head])
                read = c[token, head // 3] @ b[other, head // 3]
                expected = expected + kept * read * times[other, head] * x[other, head]
            np.testing.assert_allclose(found[token, head], expected, rtol=1e-4, atol=1e-5)


def recalled() -> list[Floats]:
    """Operands of a delta rule over 11 tokens: 6 heads of 5 elements, 2 groups of keys of 3."""
    rates = 1 / (1 + np.exp(-rows(11, 6)))
    q, k, v = rows(11, 2, 3), rows(2, 11, 3).reshape(11, 2, 3) / 2, rows(11, 6, 5)
    return [q, k, v, rows(11, 6), rates, -np.exp(rows(6)), rows(6)]


def test_gated_delta_rule() -> None:
    """The state is of matrices: each token's fades, forgets what its key recalls, and takes its value in."""
    q, k, v, steps, rates, decay, bias = operands = recalled()
    (found,) = run("gated_delta_rule", *operands)
    for head in range(6):
        state = np.zeros((3, 5))
        for token in range(11):
            key = k[token, head // 3].astype(np.float64)[:, None]
            rate = rates[token, head]
            fading = np.exp(np.log1p(np.exp(steps[token, head] + bias[head])) * decay[head])
            state = fading * (np.eye(3) - rate * key @ key.T) @ state + rate * key @ v[token, head][None]
            expected = q[token, head // 3] @ state
            np.testing.assert_allclose(found[token, head], expected, rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_delta_rule_in_chunks_over_pages(sizes: Sequence[int]) -> None:
    *by_token, decay, bias = recalled()
    (whole,) = run("gated_delta_rule", *by_token, decay, bias)
    slots, table = np.full((5, 6, 3, 5), np.nan, np.float32), np.array([[2, 0, 3]], np.int32)
    start = 0
    for size in [*sizes, 11]:
        end = min(start + size, 11)
        if start == end:
            break
        batch = np.array([0, end - start], np.int32), np.array([end], np.int32), table
        own = [array[start:end] for array in by_token]
        slots, found = run("paged_delta", slots, *own, decay, bias, *batch, page_size=PAGE_SIZE)
        np.testing.assert_allclose(found, whole[start:end], rtol=1e-5, atol=1e-6)
        start = end
    assert np.isnan(slots[[1, 4]]).all()


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_in_chunks_over_pages(sizes: Sequence[int]) -> None:
    """Each chunk takes up what the one before has left, and leaves what the next one needs."""
    x, *scan = scanned()
    conv = [rows(3, 30), rows(30)]
    whole_conv, whole_scan = (
        run("causal_conv", x.reshape(11, 30), *conv)[0],
        run("selective_scan", x, *scan)[0],
    )
    table = np.array([[2, 0, 3]], np.int32)
    conv_slots, scan_slots = (
        np.full((5, 2, 30), np.nan, np.float32),
        np.full((5, 6, 3, 5), np.nan, np.float32),
    )
    start = 0
    for size in [*sizes, 11]:
        end = min(start + size, 11)
        if start == end:
            break
        batch = np.array([0, end - start], np.int32), np.array([end], np.int32), table
        part = x[start:end]
        conv_slots, found = run(
            "paged_conv",
            conv_slots,
            part.reshape(-1, 30),
            conv[0],
            *batch,
            conv[1],
            page_size=PAGE_SIZE,
        )
        np.testing.assert_allclose(found, whole_conv[start:end], rtol=1e-5, atol=1e-6)
        own = [*(array[start:end] for array in scan[:3]), *scan[3:]]
        scan_slots, found = run("paged_scan", scan_slots, part, *own, *batch, page_size=PAGE_SIZE)
        np.testing.assert_allclose(found, whole_scan[start:end], rtol=1e-5, atol=1e-6)
        start = end
    # Full pages hold what was so at their ends, whatever came later: others may begin with them.
    np.testing.assert_array_equal(conv_slots[2], x.reshape(11, 30)[2:4])
    np.testing.assert_array_equal(conv_slots[0], x.reshape(11, 30)[6:8])
    assert np.isnan(conv_slots[[1, 4]]).all()
    assert np.isnan(scan_slots[[1, 4]]).all()


def typed(element: str, *shape: int | str) -> TensorType:
    return TensorType(shape, parse_element(element))


BATCH = [typed("int32", "bounds"), typed("int32", "sequences"), typed("int32", "sequences", "width")]
HEADS = [typed("float32", 6)] * 3
SCAN = [typed("float32", "t", 6, 5), typed("float32", "t", 6), *[typed("float32", "t", 2, 3)] * 2, *HEADS]


KEYS = typed("float32", "t", 2, 3)
DELTA = [KEYS, KEYS, SCAN[0], SCAN[1], SCAN[1], *HEADS[:2]]


@pytest.mark.parametrize(
    ("operator", "types", "problem"),
    [
        ("gated_delta_rule", [typed("float32", "t", 2, 4), *DELTA[1:]], "do not fit"),
        ("gated_delta_rule", [*[typed("float32", "t", 4, 3)] * 2, *DELTA[2:]], "4 groups do not divide"),
        ("gated_delta_rule", [*DELTA[:6], typed("float32", 2)], "one for each of 6 heads"),
        (
            "paged_delta",
            [typed("float32", "pages", 6, 5, 3), *DELTA, *BATCH],
            "the slots must be float32[pages, 6, 3, 5]",
        ),
        ("causal_conv", [typed("float32", "t", 4), typed("float32", 3, 5)], "not for the channels"),
        ("causal_conv", [typed("float32", "t", 4), typed("float32", 1, 4)], "at least two taps"),
        ("causal_conv", [typed("float16", "t", 4), typed("float16", 3, 4)], "are over float32"),
        ("causal_conv", [typed("float32", "t", 4), *[typed("float32", 3, 4)] * 2], "a bias must be"),
        (
            "paged_conv",
            [typed("float32", "pages", 3, 4), typed("float32", "t", 4), typed("float32", 3, 4), *BATCH],
            "the slots must be float32[pages, 2, 4]",
        ),
        ("selective_scan", [*SCAN[:2], *[typed("float32", "t", 4, 3)] * 2, *HEADS], "4 groups do not divide"),
        ("selective_scan", [*SCAN[:4], *[typed("float32", 5)] * 3], "one for each of 6 heads"),
        ("selective_scan", [SCAN[0], typed("float32", "t", 5), *SCAN[2:]], "do not fit"),
        (
            "paged_scan",
            [typed("float32", "pages", 6, 5, 3), *SCAN, *BATCH],
            "the slots must be float32[pages, 6, 3, 5]",
        ),
        (
            "paged_scan",
            [typed("float32", "pages", 6, 3, 5), *SCAN, *BATCH[:2], typed("int32", "others", "width")],
            "not of the same sequences",
        ),
    ],
)
def test_misfits_are_refused(operator: str, types: Sequence[TensorType], problem: str) -> None:
    builder = GraphBuilder()
    operands = [builder.parameter(f"p{index}", type_) for index, type_ in enumerate(types)]
    attributes: dict[str, Attribute] = {"page_size": PAGE_SIZE} if operator.startswith("paged") else {}
    with pytest.raises(IRError) as raised:
        builder.emit_all(operator, *operands, **attributes)
    assert problem in str(raised.value)
