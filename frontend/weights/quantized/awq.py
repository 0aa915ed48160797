"""AWQ's matrices (Lin et al., 2023), as AutoAWQ and GPTQModel save them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....ir.quantization import QuantizedArray
from ....ir.types import TensorType
from ...configs import Fields
from .matrix import FLOAT_TYPES, AnyArray, StoredMatrix, StoredTensors, integer_matrix, name_format
from .packing import spread, unpack_bits

__all__ = ["find_matrices"]

_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in a word of the GEMM version eight neighbouring outputs are: words hold 0, 2, 4, 6, 1, 3, 5, 7."""


def find_matrices(config: Fields, tensors: StoredTensors) -> Iterator[StoredMatrix]:
    """Every matrix of a checkpoint: codes, zero points and scales ``[inputs or groups, outputs]`` (GEMM).

    In the GEMV version they are ``[outputs, inputs or groups]``, groups filled up to whole words.
    """
    bits = config.integer("bits", config.integer("w_bit", 4))
    if bits != 4:
        raise config.refuse(f"{bits} bits are not supported; 4 are")
    version = config.text("version", config.text("checkpoint_format", config.text("format", "gemm"))).lower()
    if version not in ("gemm", "gemv"):
        raise config.refuse(f"version '{version}' is not supported; gemm and gemv are")
    given = config.values.get("group_size", config.values.get("q_group_size", 128))
    size = None if given == -1 else Fields({"group_size": given}, config.where).integer("group_size", 128)
    for module in tensors.modules_with("qweight"):
        yield (_gemm if version == "gemm" else _gemv)(tensors, module, size)


def _gemm(tensors: StoredTensors, module: str, group_size: int | None) -> StoredMatrix:
    names = [f"{module}.{part}" for part in ("qweight", "qzeros", "scales")]
    weight, zeros, scales = names
    inputs, words = tensors.shape(weight, ("I32",), None, None)
    outputs, size = words * 8, group_size or inputs
    if inputs % size:
        raise tensors.misfit(weight, f"has {inputs} inputs, which are no whole groups of {size}")
    tensors.shape(zeros, ("I32",), inputs // size, words)
    tensors.shape(scales, FLOAT_TYPES, inputs // size, outputs)
    quant_format = name_format("int4", size, inputs, tensors.dtype(scales), "_z")

    def read() -> QuantizedArray:
        codes, points = (_in_order(tensors.read(name), outputs).T for name in (weight, zeros))
        factors = spread(tensors.read(scales).T, size, inputs)
        return integer_matrix(quant_format, codes, factors, np.ascontiguousarray(points))

    return StoredMatrix(f"{module}.weight", TensorType((outputs, inputs), quant_format), tuple(names), read)


def _in_order(words: AnyArray, outputs: int) -> AnyArray:
    """Numbers ``[rows, outputs]`` of the GEMM version's words."""
    apart = unpack_bits(words, 4, outputs).reshape(len(words), -1, 8)
    return np.take(apart, _PLACES, axis=2).reshape(len(words), outputs)


def _gemv(tensors: StoredTensors, module: str, group_size: int | None) -> StoredMatrix:
    names = [f"{module}.{part}" for part in ("qweight", "qzeros", "scales")]
    weight, zeros, scales = names
    outputs, words = tensors.shape(weight, ("I32",), None, None)
    inputs = words * 8
    size = group_size or inputs
    if inputs % size:
        raise tensors.misfit(weight, f"has {inputs} inputs, which are no whole groups of {size}")
    groups, width = inputs // size, _words_of_zeros(inputs // size, size)
    tensors.shape(zeros, ("I32",), outputs, width)
    tensors.shape(scales, FLOAT_TYPES, outputs, width * 8)
    quant_format = name_format("int4", size, inputs, tensors.dtype(scales), "_z")

    def read() -> QuantizedArray:
        codes = unpack_bits(tensors.read(weight), 4, inputs)
        points = np.ascontiguousarray(unpack_bits(tensors.read(zeros), 4, groups))
        factors = np.ascontiguousarray(tensors.read(scales)[:, :groups])
        return integer_matrix(quant_format, codes, factors, points)

    return StoredMatrix(f"{module}.weight", TensorType((outputs, inputs), quant_format), tuple(names), read)


def _words_of_zeros(groups: int, size: int) -> int:
    """Words in which a row's zero points lie: whole quarters, halves or wholes of 128 inputs' worth."""
    multiple = max(1, 128 // size)
    words = -(-groups // 8)
    return -(-words // multiple) * multiple
