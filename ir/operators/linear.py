"""Matrix products and table look-ups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from ..operator import Array, Attribute, operator
from ..quantization import QuantFormat, QuantizedArray, scales_and_zeros
from ..types import ScalarType, TensorType
from ._infer import FloatArray, as_float32, floats, plain, require

__all__ = ["product", "require_rows"]


def _infer_matmul(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    left, right = types
    fits = (
        left.rank == right.rank >= 2
        and left.shape[:-2] == right.shape[:-2]
        and left.shape[-1] == right.shape[-2]
    )
    require(fits, f"{left} and {right} do not multiply")
    require(
        floats(left, "matmul's operands") == floats(right, "matmul's operands"), f"{left} and {right} differ"
    )
    return (left.with_shape(*left.shape[:-1], right.shape[-1]),)


@operator("matmul", _infer_matmul, operands=2)
def _matmul(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    left, right = operands
    return ((as_float32(left) @ as_float32(right)).astype(plain(left).dtype, copy=False),)


def _infer_linear(types: Sequence[TensorType], attributes: Mapping[str, Attribute]) -> tuple[TensorType, ...]:
    x, weight = types[:2]
    require(weight.rank == 2 and x.rank >= 1, f"linear takes rows and a matrix, not {x} and {weight}")
    require_rows(x, weight)
    if len(types) == 3:
        bias = TensorType((weight.shape[0],), ScalarType.FLOAT32)
        require(types[2] == bias, f"the bias must be {bias}, not {types[2]}")
    return (TensorType((*x.shape[:-1], weight.shape[0]), ScalarType.FLOAT32),)


def require_rows(x: TensorType, weight: TensorType) -> None:
    """Raise unless rows ``x`` multiply with ``weight`` ``[..., outputs, inputs]``: in size, and in format."""
    require(
        x.shape[-1] == weight.shape[-1],
        f"{x} does not fit weight {weight}: rows of {weight.shape[-1]} are needed",
    )
    if isinstance(x.element, QuantFormat):
        fits = isinstance(weight.element, QuantFormat) and weight.element.multiplies(x.element)
        require(fits, f"quantized rows {x} need a weight of whole numbers in groups that fit, not {weight}")
    elif x.element is ScalarType.BFLOAT16:
        require(
            weight.element is x.element, f"rows {x} that were rounded need a weight like them, not {weight}"
        )
    else:
        require(x.element is ScalarType.FLOAT32, f"a product's rows are float32 or quantized, not {x}")


@operator("linear", _infer_linear, operands=(2, 3))
def _linear(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    """``x @ weight.T + bias``; rows and weights both quantized are multiplied exactly, group by group."""
    result = product(*operands[:2])
    if len(operands) == 3:
        result = result + as_float32(operands[2])
    return (result,)


def product(x: Array, weight: Array) -> FloatArray:
    """``x @ weight.T``."""
    if isinstance(x, QuantizedArray) and isinstance(weight, QuantizedArray):
        return _product_of_codes(x, weight)
    result: FloatArray = as_float32(x) @ as_float32(weight).T
    return result


def _product_of_codes(x: QuantizedArray, weight: QuantizedArray) -> FloatArray:
    """Groups' sums of whole numbers are exact in float32; they are scaled and added, the groups ascending.

    What the groups' offsets add is their sums of the rows' codes times the values of code zero.
    """
    width = x.shape[-1]
    x_size, size = x.format.group_size or width, weight.format.group_size or width
    scales, zeros = scales_and_zeros(weight)
    x_scales, _ = scales_and_zeros(x)
    if x_size == width and weight.format.is_whole_by_row and zeros is None:
        return _product_of_whole_rows(x, weight, x_scales)
    result = np.zeros((*x.shape[:-1], weight.shape[0]), np.float32)
    step = min(x_size, size)
    for start in range(0, width, step):
        rows = x.format.codes.decode(x.codes[..., start : start + step])
        exact = rows @ weight.format.codes.decode(weight.codes[:, start : start + step]).T
        x_scale = x_scales[..., start // x_size, None]
        result += exact * x_scale * scales[:, start // size]
        if zeros is not None:
            result += rows.sum(axis=-1, keepdims=True) * x_scale * zeros[:, start // size]
    return result


def _product_of_whole_rows(x: QuantizedArray, weight: QuantizedArray, x_scales: FloatArray) -> FloatArray:
    """Where rows on both sides are whole numbers times one scale, there is one exact sum, scaled once."""
    whole, row_scales = weight.format.codes.decode(weight.codes), weight.scales
    if weight.super_scales is not None:
        size = weight.codes.shape[-1] // weight.scales.shape[-1]
        whole, row_scales = whole * np.repeat(weight.scales, size, axis=-1), weight.super_scales
    exact = x.codes.astype(np.float64) @ whole.astype(np.float64).T
    result: FloatArray = exact.astype(np.float32) * (x_scales * row_scales.astype(np.float32).T)
    return result


def _infer_embedding(
    types: Sequence[TensorType], attributes: Mapping[str, Attribute]
) -> tuple[TensorType, ...]:
    table, token_ids = types
    require(table.rank == 2, f"an embedding's table must be a matrix, not {table}")
    require(
        token_ids.element is ScalarType.INT32 and token_ids.rank == 1,
        f"token ids must be int32[n], not {token_ids}",
    )
    return (TensorType((token_ids.shape[0], table.shape[1]), ScalarType.FLOAT32),)


@operator("embedding", _infer_embedding, operands=2)
def _embedding(
    operands: Sequence[Array], attributes: Mapping[str, Attribute], symbols: Mapping[str, int]
) -> tuple[Array, ...]:
    table, rows = operands[0], cast("np.ndarray[tuple[int], np.dtype[np.int32]]", plain(operands[1]))
    return (as_float32(table[rows]),)
