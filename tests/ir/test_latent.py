"""Operators over latents, against those over keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ingot.ir import GraphBuilder, ScalarType, TensorType, find_operator
from ingot.ir.errors import IRError

F32 = ScalarType.FLOAT32
TOKENS, HEADS, RANK, SHARED = 9, 3, 5, 2


def apply(operator: str, *operands: npt.NDArray[Any], **attributes: Any) -> npt.NDArray[Any]:
    (result,) = find_operator(operator).evaluate(list(operands), attributes, {})
    return np.asarray(result)


def rows(seed: int, *shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_latents_are_keys_and_values_of_all_heads() -> None:
    q, latents = rows(0, TOKENS, HEADS, RANK + SHARED), rows(1, TOKENS, RANK + SHARED)
    keys, values = latents[:, None], latents[:, None, :RANK]
    expected = apply("attention", q, keys, values, scale=0.3, soft_cap=0.0, window=0)
    found = apply("latent_attention", q, latents, scale=0.3, value_dim=RANK)
    assert found.shape == (TOKENS, HEADS, RANK)
    np.testing.assert_array_equal(found, expected)


def test_pages_hold_what_the_whole_sequence_has() -> None:
    q, latents = rows(0, TOKENS, HEADS, RANK + SHARED), rows(1, TOKENS, RANK + SHARED)
    cache = np.full((5, 1, 4, RANK + SHARED), np.nan, np.float32)
    table = np.array([[3, 0, 4]], np.int32)
    slots = np.array([table[0, i // 4] * 4 + i % 4 for i in range(TOKENS)], np.int32)
    cache = apply("append_latents", cache, latents, slots)
    starts, lengths = np.array([0, 4], np.int32), np.array([TOKENS], np.int32)
    attributes = {"scale": 0.3, "value_dim": RANK}
    last = apply("paged_latent_attention", q[-4:], cache, starts, lengths, table, **attributes)
    np.testing.assert_allclose(last, apply("latent_attention", q, latents, **attributes)[-4:], rtol=1e-6)


def test_each_head_has_its_matrix() -> None:
    x, weight = rows(0, TOKENS, HEADS, RANK), rows(1, HEADS, 7, RANK)
    found = apply("head_linear", x, weight)
    for head in range(HEADS):
        np.testing.assert_allclose(found[:, head], x[:, head] @ weight[head].T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "shapes", "attributes", "problem"),
    [
        ("head_linear", [("t", 3, 5), (4, 7, 5)], {}, "takes [tokens, heads, n] and [heads, m, n]"),
        ("latent_attention", [("t", 3, 5), ("t", 6)], {"scale": 1.0, "value_dim": 4}, "do not fit"),
        ("latent_attention", [("t", 3, 5), ("t", 5)], {"scale": 1.0, "value_dim": 6}, "has no 6 values"),
        (
            "append_latents",
            [("pages", 2, 4, 5), ("t", 5), ("t",)],
            {},
            "kept as floats, or whole numbers with scales, in [pages, 1",
        ),
        ("append_latents", [("pages", 1, 4, 5), ("t", 6), ("t",)], {}, "does not take"),
    ],
)
def test_misfits_are_refused(
    operator: str, shapes: Sequence[tuple[Any, ...]], attributes: dict[str, Any], problem: str
) -> None:
    builder = GraphBuilder()
    operands = [builder.parameter(f"p{i}", TensorType(shape, F32)) for i, shape in enumerate(shapes)]
    with pytest.raises(IRError) as error:
        builder.apply(operator, operands, attributes)
    assert problem in str(error.value)
