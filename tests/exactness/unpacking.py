"""Parameters read back from an artifact, by what :mod:`ingot.codegen.kernels.layout` says of their places."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
from ingot.ir import Array, QuantFormat, QuantizedArray, TensorType, Value
from ingot.runtime.execution.artifact import MappedArrays
from ingot.targets import read_manifest

__all__ = ["unpack_parameters"]

BLOCK = 16


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
    if layout == "blocks16":
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
        codes, scales = (
            np.stack([getattr(expert, part) for expert in experts]) for part in ("codes", "scales")
        )
        return QuantizedArray(first.format, codes, scales)
    return np.stack(experts)


def _unpack_codes(
    element: QuantFormat, shape: tuple[int, ...], codes: np.ndarray, scales: np.ndarray
) -> QuantizedArray:
    outputs, inputs = shape
    fours = codes.reshape(len(codes), -1, BLOCK, 4)
    if element.bits == 4:
        fours = np.stack([fours & 15, fours >> 4], axis=2).reshape(len(codes), -1, BLOCK, 4)
    rows = fours.transpose(0, 2, 1, 3).reshape(-1, inputs).astype(np.int16) + element.codes.smallest
    assert not rows[outputs:].any(), "what fills the last block is not zero"
    found = scales.transpose(0, 2, 1).reshape(-1, inputs // element.block_size)
    return QuantizedArray(element, rows[:outputs].astype(np.int8), found[:outputs])
