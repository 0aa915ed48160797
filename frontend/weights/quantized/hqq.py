"""HQQ's matrices (Badri and Shaji, 2023), as ``hqq`` and ``transformers`` save them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ....ir.quantization import QuantizedArray
from ....ir.types import TensorType
from ...configs import Fields
from .matrix import FLOAT_TYPES, AnyArray, StoredMatrix, StoredTensors, integer_matrix, name_format
from .packing import spread_across

__all__ = ["find_matrices"]

_PACKINGS = {"8bit_u8": (8, 1), "4bit_u8": (4, 2), "3bit_32": (3, 10), "2bit_u8": (2, 4)}
"""Bits of a number's place, and numbers that share a byte or, of 3 bits, a word of 32."""

_SETTINGS = (
    *("nbits", "group_size", "shape", "axis", "packing", "unpack_view_dtype", "view_as_float"),
    *("quant_scale", "quant_zero", "compute_dtype", "offload_meta", "encoded_state_dict"),
    *("stores_quant_config", "channel_wise", "optimize", "round_zero"),
)


def find_matrices(config: Fields, tensors: StoredTensors) -> Iterator[StoredMatrix]:
    """Every ``W_q`` with ``scale``, ``zero`` and settings, each of which is a tensor of its own."""
    for module in tensors.modules_with("W_q"):
        yield _matrix(tensors, module)


def _matrix(tensors: StoredTensors, module: str) -> StoredMatrix:
    codes, scales, zeros = (f"{module}.{part}" for part in ("W_q", "scale", "zero"))
    bits, size, axis = (_number(tensors, f"{module}.{part}") for part in ("nbits", "group_size", "axis"))
    if axis != 1:
        raise tensors.misfit(
            f"{module}.axis", f"is {axis}: only groups along the inputs, axis 1, are supported"
        )
    packing = _text(tensors, f"{module}.packing")
    if packing not in _PACKINGS or not 2 <= bits <= _PACKINGS[packing][0]:
        raise tensors.misfit(
            f"{module}.packing",
            f"is '{packing}' for {bits} bits; supported are {', '.join(_PACKINGS)} for 2 to 8",
        )
    tensors.shape(f"{module}.shape", ("I64", "I32"), 2)
    outputs, inputs = (int(dim) for dim in tensors.read(f"{module}.shape"))
    if size < 1 or min(outputs, inputs) < 1 or outputs * inputs % size:
        raise tensors.misfit(
            f"{module}.shape", f"is {outputs} x {inputs}, which are no whole groups of {size}"
        )
    groups = outputs * inputs // size
    for name in (scales, zeros):
        tensors.shape(name, FLOAT_TYPES, groups, 1)
    if tensors.dtype(scales) != tensors.dtype(zeros):
        raise tensors.misfit(zeros, f"is {tensors.dtype(zeros)} where '{scales}' is {tensors.dtype(scales)}")
    _, per_place = _PACKINGS[packing]
    rows, itemsize = -(-groups // per_place), 4 if packing == "3bit_32" else 1
    entry = tensors.weights.entry(codes)
    if entry.stop - entry.start != rows * size * itemsize:
        raise tensors.misfit(
            codes,
            f"is {entry.dtype}{list(entry.shape)}, which are not {groups} groups of {size} as {packing}",
        )
    quant_format = name_format(f"int{bits}", size, inputs, tensors.dtype(scales), "_fz")

    def read() -> QuantizedArray:
        words = np.ascontiguousarray(tensors.read(codes)).view(f"u{itemsize}").reshape(rows, size)
        factors, points = (
            spread_across(tensors.read(name).reshape(-1), size, outputs, inputs) for name in (scales, zeros)
        )
        unpacked = _unpack(words, packing)[:groups].reshape(outputs, inputs)
        return integer_matrix(quant_format, unpacked, factors, points)

    settings = tensors.present(*(f"{module}.{part}" for part in _SETTINGS))
    return StoredMatrix(
        f"{module}.weight",
        TensorType((outputs, inputs), quant_format),
        (codes, scales, zeros, *settings),
        read,
    )


def _unpack(words: AnyArray, packing: str) -> npt.NDArray[np.uint8]:
    """Groups ``[n, size]``; the first of those that share words are in their highest places."""
    bits, per_place = _PACKINGS[packing]
    shifts = (bits * np.arange(per_place - 1, -1, -1)).astype(words.dtype)[:, None, None]
    apart: AnyArray = words >> shifts & words.dtype.type((1 << bits) - 1)
    return apart.astype(np.uint8).reshape(-1, words.shape[1])


def _number(tensors: StoredTensors, name: str) -> int:
    tensors.shape(name, ("I32",))
    return int(tensors.read(name))


def _text(tensors: StoredTensors, name: str) -> str:
    tensors.shape(name, ("U8",), None)
    return tensors.read(name).tobytes().decode("ascii", "replace")
