"""Matrices of ``bitsandbytes``: NF4 and FP4 (Dettmers et al., "QLoRA", 2023), LLM.int8 (the same, 2022)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ....ir.errors import WeightError
from ....ir.quantization import QuantizedArray
from ....ir.types import TensorType
from ...configs import Fields
from .matrix import StoredMatrix, StoredTensors, name_format
from .packing import spread_across, unpack_nibbles

__all__ = ["find_matrices"]

_STATE = "quant_state.bitsandbytes__"
"""What the name of the tensor that describes a matrix begins with; its kind follows."""

_LARGEST_STATE = 65_536
"""Bytes of JSON that describe a matrix; a few hundred is usual."""

_ONE_IN_127 = np.float32(7.874015718698502e-3)
"""As the library multiplies by it."""

_STORAGES = ("U8", "F16", "BF16", "F32", "I8")
"""What a matrix of 4-bit codes is said to be made of; its bytes are the same."""


def find_matrices(config: Fields, tensors: StoredTensors) -> Iterator[StoredMatrix]:
    """Every matrix of a checkpoint: ``weight`` with its state, or with ``SCB``."""
    for module in tensors.modules_with("SCB"):
        yield _of_bytes(tensors, module)
    for module in tensors.modules_with("weight.absmax"):
        kind = "fp4" if tensors.holds(f"{module}.weight.{_STATE}fp4") else "nf4"
        yield _of_nibbles(tensors, module, kind)


def _of_bytes(tensors: StoredTensors, module: str) -> StoredMatrix:
    weight, maxima, layout = f"{module}.weight", f"{module}.SCB", f"{module}.weight_format"
    outputs, inputs = tensors.shape(weight, ("I8",), None, None)
    tensors.shape(maxima, ("F32",), outputs)
    if tensors.holds(layout) and tensors.read(layout).any():
        raise tensors.misfit(layout, "is not 0: only matrices that lie row by row are supported")
    quant_format = name_format("int8", None, inputs, "F32")

    def read() -> QuantizedArray:
        scales = tensors.read(maxima)[:, None] * _ONE_IN_127
        return QuantizedArray(quant_format, tensors.read(weight), scales)

    parts = (weight, maxima, *tensors.present(layout))
    return StoredMatrix(weight, TensorType((outputs, inputs), quant_format), parts, read)


def _of_nibbles(tensors: StoredTensors, module: str, kind: str) -> StoredMatrix:
    weight = f"{module}.weight"
    maxima, table, state = (f"{weight}.{part}" for part in ("absmax", "quant_map", f"{_STATE}{kind}"))
    said = _read_state(tensors, state)
    shape, size = said.integers("shape"), said.integer("blocksize")
    if len(shape) != 2 or 0 in shape:
        raise tensors.misfit(state, f"gives the shape {list(shape)}; a matrix is needed")
    outputs, inputs = shape
    num_blocks = -(-outputs * inputs // size)
    entry = tensors.weights.entry(weight)
    if entry.dtype not in _STORAGES or 2 * (entry.stop - entry.start) != outputs * inputs:
        raise tensors.misfit(
            weight, f"is {entry.dtype}{list(entry.shape)}, which are not {outputs} x {inputs} codes of 4 bits"
        )
    nested = tensors.holds(f"{weight}.nested_absmax")
    tensors.shape(maxima, ("U8",) if nested else ("F32",), num_blocks)
    tensors.shape(table, ("F32",), 16)
    quant_format = name_format(kind, size, inputs, "F32")
    if not np.array_equal(tensors.read(table), quant_format.codes.values):
        raise tensors.misfit(table, f"is another table of values than that of {kind}")

    def read() -> QuantizedArray:
        stored = np.ascontiguousarray(tensors.read(weight)).view(np.uint8)
        codes = unpack_nibbles(stored.reshape(-1), high_first=True).reshape(outputs, inputs)
        scales = _nested(tensors, weight, said) if nested else tensors.read(maxima)
        return QuantizedArray(quant_format, codes, spread_across(scales, size, outputs, inputs))

    of_nesting = tensors.present(f"{weight}.nested_absmax", f"{weight}.nested_quant_map")
    parts = (weight, maxima, table, state, *of_nesting)
    return StoredMatrix(weight, TensorType((outputs, inputs), quant_format), parts, read)


def _read_state(tensors: StoredTensors, name: str) -> Fields:
    (length,) = tensors.shape(name, ("U8",), None)
    try:
        content = json.loads(tensors.read(name).tobytes()) if length <= _LARGEST_STATE else None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise tensors.misfit(name, "is not the JSON object that describes a matrix")
    return Fields(content, f"tensor '{name}'")


def _nested(tensors: StoredTensors, weight: str, said: Fields) -> npt.NDArray[np.float32]:
    """Scales that are themselves codes of 8 bits, in blocks about a mean."""
    codes = tensors.read(f"{weight}.absmax")
    size, mean = said.integer("nested_blocksize"), said.values.get("nested_offset")
    maxima, table = f"{weight}.nested_absmax", f"{weight}.nested_quant_map"
    tensors.shape(maxima, ("F32",), -(-len(codes) // size))
    tensors.shape(table, ("F32",), 256)
    if isinstance(mean, bool) or not isinstance(mean, int | float):
        raise WeightError(f"{said.where}: 'nested_offset' must be a number, not {mean!r}")
    factors = tensors.read(maxima)[np.arange(len(codes)) // size]
    scales: npt.NDArray[np.float32] = tensors.read(table)[codes] * factors + np.float32(mean)
    return scales
