"""Experts in MXFP4 (OCP Microscaling formats, 2023), as gpt-oss has them."""

from __future__ import annotations

from collections.abc import Iterator

from ....ir.quantization import QuantizedArray, find_format
from ....ir.types import TensorType
from ...configs import Fields
from .matrix import StoredMatrix, StoredTensors
from .packing import unpack_nibbles

__all__ = ["find_matrices"]


def find_matrices(config: Fields, tensors: StoredTensors) -> Iterator[StoredMatrix]:
    """Every tensor ``NAME_blocks`` ``[experts, outputs, groups, 16]`` with its ``NAME_scales``.

    A byte has two codes, the first in its low half. The model asks for ``NAME_blocks``, which is
    ``[experts, outputs, inputs]``, where an unquantized ``NAME`` is ``[experts, inputs, outputs]``.
    """
    for name in [name for name in tensors.weights.names if name.endswith("_blocks")]:
        yield _experts(tensors, name.removesuffix("_blocks"))


def _experts(tensors: StoredTensors, name: str) -> StoredMatrix:
    blocks, scales = f"{name}_blocks", f"{name}_scales"
    experts, outputs, groups, _ = tensors.shape(blocks, ("U8",), None, None, None, 16)
    tensors.shape(scales, ("U8",), experts, outputs, groups)
    quant_format = find_format("mxfp4")

    def read() -> QuantizedArray:
        codes = unpack_nibbles(tensors.read(blocks)).reshape(experts, outputs, groups * 32)
        return QuantizedArray(quant_format, codes, tensors.read(scales))

    return StoredMatrix(
        blocks, TensorType((experts, outputs, groups * 32), quant_format), (blocks, scales), read
    )
