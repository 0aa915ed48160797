"""What the operators of mixtures compute, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ingot.ir import (
    Attribute,
    GraphBuilder,
    IRError,
    QuantizedArray,
    ScalarType,
    dequantize,
    find_format,
    find_operator,
    quantize,
)

PLAIN: dict[str, Attribute] = {
    "experts_per_token": 2,
    "scores": "softmax",
    "groups": 1,
    "kept_groups": 1,
    "group_terms": 1,
    "normalize": False,
    "scale": 1.0,
    "jitter": 0.0,
}
LOGITS = np.log(np.array([[1, 4, 2, 3], [2, 2, 1, 2]], np.float32))


def routed(logits: npt.NDArray[Any], *bias: npt.NDArray[Any], **changes: Attribute) -> tuple[Any, Any]:
    experts, weights = find_operator("route").evaluate([logits, *bias], {**PLAIN, **changes}, {})
    return experts, weights


def test_the_best_come_first_and_of_equals_the_first() -> None:
    experts, weights = routed(LOGITS)
    np.testing.assert_array_equal(experts, [[1, 3], [0, 1]])
    np.testing.assert_allclose(weights, [[0.4, 0.3], [2 / 7, 2 / 7]], rtol=1e-6)


def test_weights_are_normalized_and_scaled() -> None:
    _, weights = routed(LOGITS, normalize=True, scale=3.0)
    np.testing.assert_allclose(weights, [[12 / 7, 9 / 7], [1.5, 1.5]], rtol=1e-6)


def test_a_softmax_of_the_chosen_is_that_of_all_normalized() -> None:
    for all_, chosen in zip(
        routed(LOGITS, normalize=True), routed(LOGITS, scores="softmax_of_chosen"), strict=True
    ):
        np.testing.assert_allclose(chosen, all_, rtol=1e-6)


def test_a_bias_is_for_the_choice_alone() -> None:
    bias = np.array([9, 0, 0, 0], np.float32)
    experts, weights = routed(LOGITS, bias, scores="sigmoid")
    np.testing.assert_array_equal(experts, [[0, 1], [0, 1]])
    np.testing.assert_allclose(weights, [[1 / 2, 4 / 5], [2 / 3, 2 / 3]], rtol=1e-6)


def test_groups_are_judged_by_their_best() -> None:
    logits = np.log(np.array([[5, 1, 4, 4]], np.float32))
    by_one, _ = routed(logits, groups=2)
    np.testing.assert_array_equal(by_one, [[0, 1]])
    by_two, _ = routed(logits, groups=2, group_terms=2)
    np.testing.assert_array_equal(by_two, [[2, 3]])


def test_a_sparse_mixer_shares_with_those_that_are_near() -> None:
    logits = np.array([[2.0, 1.9, -1.0, 1.0]], np.float32)
    experts, weights = routed(logits, scores="sparsemixer", jitter=0.05)
    np.testing.assert_array_equal(experts, [[0, 1]])
    np.testing.assert_allclose(weights, [[1 / (1 + np.exp(-0.1)), 1.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts_per_token": 5}, "5 cannot be chosen of 4 experts"),
        ({"groups": 3}, "1 of 3 groups cannot be kept of 4 experts"),
        ({"groups": 2, "kept_groups": 3}, "3 of 2 groups"),
        ({"groups": 4, "experts_per_token": 2}, "2 cannot be chosen"),
        ({"groups": 2, "group_terms": 3}, "judged by its best or two, not 3"),
        ({"scores": "tanh"}, "no kind of scores 'tanh'"),
        ({"scores": "sparsemixer", "groups": 2}, "in no groups"),
    ],
)
def test_what_cannot_be_routed_is_refused(changes: dict[str, Attribute], message: str) -> None:
    builder = GraphBuilder()
    logits = builder.input("logits", ("tokens", 4), ScalarType.FLOAT32)
    with pytest.raises(IRError, match=message):
        builder.emit_all("route", logits, **{**PLAIN, **changes})


def test_what_is_chosen_can_be_taken_of_other_scores() -> None:
    x, chosen = np.arange(12, dtype=np.float32).reshape(2, 6), np.array([[3, 0], [5, 5]], np.int32)
    (found,) = find_operator("take_chosen").evaluate([x, chosen], {}, {})
    np.testing.assert_array_equal(found, [[3, 0], [11, 11]])


@pytest.mark.parametrize("shared", [True, False], ids=["a row a token", "a row an expert"])
def test_each_row_meets_the_weights_of_its_token_s_experts(shared: bool) -> None:
    random = np.random.default_rng(0)
    chosen = np.array([[2, 0], [0, 4], [2, 4]], np.int32)
    weight = random.standard_normal((5, 7, 32)).astype(np.float32)
    bias = random.standard_normal((5, 7)).astype(np.float32)
    x = random.standard_normal((3, 32) if shared else (3, 2, 32)).astype(np.float32)
    rows = np.repeat(x[:, None], 2, axis=1) if shared else x
    expected = np.einsum("tki,tkoi->tko", rows, weight[chosen]) + bias[chosen]
    (found,) = find_operator("expert_linear").evaluate([x, weight, chosen, bias], {}, {})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    codes, rounded = quantize(weight, find_format("int8_g32")), quantize(x, find_format("dynamic_int8_g32"))
    assert isinstance(codes, QuantizedArray)
    (found,) = find_operator("expert_linear").evaluate([rounded, codes, chosen, bias], {}, {})
    (expected,) = find_operator("expert_linear").evaluate(
        [dequantize(rounded), dequantize(codes), chosen, bias], {}, {}
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("x", "weight", "chosen", "message"),
    [
        (("tokens", 8), (5, 7, 9), ("tokens", 2), "rows of 9 are needed"),
        (("tokens", 3, 8), (5, 7, 8), ("tokens", 2), "neither one for each token"),
        (("tokens", 8), (7, 8), ("tokens", 2), "must be .experts, outputs, inputs."),
        (("tokens", 8), (5, 7, 8), ("tokens",), "must be int32 .tokens, k."),
    ],
)
def test_rows_and_experts_that_do_not_fit_are_refused(
    x: tuple[Any, ...], weight: tuple[int, ...], chosen: tuple[Any, ...], message: str
) -> None:
    builder = GraphBuilder()
    operands = [
        builder.input("x", x, ScalarType.FLOAT32),
        builder.input("w", weight, ScalarType.FLOAT32),
        builder.input("e", chosen, ScalarType.INT32),
    ]
    with pytest.raises(IRError, match=message):
        builder.emit("expert_linear", *operands)


def test_stacked_tensors_are_of_one_type() -> None:
    parts = [np.full((2, 3), number, np.float32) for number in range(4)]
    (found,) = find_operator("stack").evaluate(parts, {}, {})
    np.testing.assert_array_equal(found, np.stack(parts))
    builder = GraphBuilder()
    one, other = (builder.input(str(n), (n, 3), ScalarType.FLOAT32) for n in (2, 4))
    assert builder.emit("stack", one, one).type.shape == (2, 2, 3)
    with pytest.raises(IRError, match="only tensors of one type"):
        builder.emit("stack", one, other)
