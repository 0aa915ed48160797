"""Parameters read back from an artifact, by what :mod:`ingot.codegen.kernels.layout` says of their places."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
from ingot.ir import Array, QuantFormat, QuantizedArray, TensorType, Value
from ingot.runtime.execution.mapped_arrays import MappedArrays
from ingot.targets import read_manifest

__all__ = ["unpack_parameters"]

BLOCK, SPAN = 16, 32


def unpack_parameters(artifact: Path, values: tuple[Value, ...]) -> dict[str, Array]:
    """The parameters ``values`` of an artifact's step, by name."""
    arrays = MappedArrays(artifact)
    types = {value.name: value.type for value in values}
    return {
        record.name: _unpack(types[record.name], record.layout, [arrays[array] for array in record.arrays])
        for record in read_manifest(artifact).parameters
    }


def _unpack(type_: TensorType, layout: str, arrays: list[np.ndarray]) -> Array:
    shape = tuple(int(dim) for dim in type_.shape)
    if layout == "blocks16" and len(shape) == 3:
        return _stacked(
            [_unpack(type_.with_shape(*shape[1:]), layout, part) for part in _by_expert(shape, arrays)]
        )
    if isinstance(type_.element, QuantFormat):
        return _unpack_codes(type_.element, shape, *arrays)
    (array,) = arrays
    if array.dtype == np.uint16:
        array = array.view(ml_dtypes.bfloat16)
    if layout == "blocks16" and array.ndim == 4:  # pairs
        array = array.transpose(0, 2, 1, 3).reshape(-1, 2 * array.shape[1])
        assert not array[:, shape[1] :].any(), "what fills the last span is not zero"
        array = array[:, : shape[1]]
    elif layout == "blocks16":
        array = array.transpose(0, 2, 1).reshape(-1, shape[1])
    else:
        assert layout in ("rows", "padded16")
    assert not array[shape[0] :].any(), "what fills the last block is not zero"
    return array[: shape[0]]


def _by_expert(shape: tuple[int, ...], arrays: list[np.ndarray]) -> list[list[np.ndarray]]:
    return [list(parts) for parts in zip(*(np.split(array, shape[0]) for array in arrays), strict=True)]


def _stacked(experts: list[Array]) -> Array:
    first = experts[0]
    if isinstance(first, QuantizedArray):
        parts = [expert.components for expert in experts if isinstance(expert, QuantizedArray)]
        return QuantizedArray(first.format, **{k: np.stack([part[k] for part in parts]) for k in parts[0]})
    return np.stack(experts)


def _unpack_codes(
    element: QuantFormat, shape: tuple[int, ...], codes: np.ndarray, *factors: np.ndarray
) -> QuantizedArray:
    outputs, inputs = shape
    vectors = codes.reshape(len(codes), -1, element.bits, 4 * BLOCK)
    fours, first = np.zeros((*vectors.shape[:2], SPAN // 4, 4 * BLOCK), np.uint8), 0
    for width in (8, 4, 2, 1):
        if element.bits & width:
            for number in range(SPAN // 4):
                vector, slot = divmod(number, 8 // width)
                plane = vectors[:, :, first + vector] >> slot * width & (1 << width) - 1
                fours[:, :, number] |= (plane << first).astype(np.uint8)
            first += width
    rows = (
        fours.reshape(len(codes), -1, BLOCK, 4)
        .transpose(0, 2, 1, 3)
        .reshape(-1, codes.shape[1] // (2 * first))
    )
    first_component, *others = element.components
    if first_component.dtype == np.int8:
        rows = (rows.astype(np.int16) - (1 << (element.bits - 1))).astype(np.int8)
    assert not rows[outputs:].any(), "what fills the last block is not zero"
    assert not rows[:, inputs:].any(), "what fills the last span is not zero"
    arrays = {first_component.name: rows[:outputs, :inputs]}
    if element.name == "q2_k":  # whose scales and offsets share bytes
        factors = factors[0] & 15, factors[0] >> 4, *factors[1:]
    for component, factor in zip(others, factors, strict=True):
        by_row = factor.transpose(0, 2, 1).reshape(-1, factor.shape[1])[:outputs]
        arrays[component.name] = np.ascontiguousarray(by_row).view(component.dtype)
    return QuantizedArray(element, **arrays)
