"""Matrices of 8-bit floats: with a scale for all, for each output, or for each block of both dimensions.

So ``transformers`` (``fp8``, as DeepSeek-V3 has it, and ``mxfp8``), FBGEMM and ``compressed-tensors`` save
them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....ir.quantization import QuantizedArray
from ....ir.types import TensorType
from ...configs import Fields
from .matrix import AnyArray, StoredMatrix, StoredTensors, name_format
from .packing import spread

__all__ = ["find_matrices", "float8_matrix", "is_float8"]

_KINDS = {"F8_E4M3": "fp8_e4m3", "F8_E5M2": "fp8_e5m2"}
_SCALE_TYPES = ("F32", "BF16", "F16", "F8_E8M0", "U8")
_OF_WEIGHTS = ("weight_scale_inv", "weight_scale")
_OF_ACTIVATIONS = ("activation_scale", "input_scale", "input_scale_ub")
"""Scales that were measured for rounding rows to 8 bits, which products here do not do."""


def find_matrices(config: Fields, tensors: StoredTensors) -> Iterator[StoredMatrix]:
    """Every ``weight`` of 8-bit floats with its ``weight_scale_inv`` or ``weight_scale``.

    Both are factors, whatever the name says.
    """
    if (experts := config.text("expert_dtype", "fp8")) != "fp8":
        raise config.refuse(f"expert_dtype '{experts}' is not supported; fp8 is")
    block = config.integers("weight_block_size")
    if block and (len(block) != 2 or 0 in block):
        raise config.refuse(f"'weight_block_size' must be two positive numbers, not {list(block)}")
    for module in tensors.modules_with("weight"):
        if is_float8(tensors, module):
            (scale, *_) = tensors.present(*(f"{module}.{part}" for part in _OF_WEIGHTS)) or (
                f"{module}.{_OF_WEIGHTS[0]}",
            )
            yield float8_matrix(tensors, module, scale, (block[0], block[1]) if block else None)


def is_float8(tensors: StoredTensors, module: str) -> bool:
    """Whether a module's ``weight`` is of 8-bit floats."""
    return tensors.dtype(f"{module}.weight") in _KINDS


def float8_matrix(
    tensors: StoredTensors, module: str, scale: str, block: tuple[int, int] | None
) -> StoredMatrix:
    """The ``weight`` of a module with the scales ``scale``.

    These are one number; one for each output; or one for each block of ``block`` outputs and inputs. Where
    ``block`` is None or does not lead to that many, blocks are of the size that divides the matrix so.
    """
    weight = f"{module}.weight"
    outputs, inputs = tensors.shape(weight, tuple(_KINDS), None, None)
    rank = len(tensors.weights.entry(scale).shape) if tensors.holds(scale) else 0
    found = tensors.shape(scale, _SCALE_TYPES, *(None,) * rank)
    rows, columns = (*found, 1, 1)[:2] if rank < 3 else (0, 0)
    high, wide = block or (1, 1)
    if (-(-outputs // high), -(-inputs // wide)) != (rows, columns):
        if not (rows and columns) or outputs % rows or inputs % columns:
            raise tensors.misfit(
                scale, f"has the shape {list(found)}, which does not divide [{outputs}, {inputs}]"
            )
        high, wide = outputs // rows, inputs // columns
    high, wide, dtype = min(high, outputs), min(wide, inputs), tensors.dtype(scale)
    quant_format = name_format(_KINDS[tensors.dtype(weight)], wide, inputs, dtype)

    def read() -> QuantizedArray:
        factors: AnyArray = tensors.read(scale).reshape(rows, columns)
        factors = np.repeat(spread(factors, wide, inputs), high, axis=0)[:outputs]
        return QuantizedArray(quant_format, tensors.read(weight), factors)

    others = tensors.present(*(f"{module}.{part}" for part in _OF_ACTIVATIONS))
    return StoredMatrix(weight, TensorType((outputs, inputs), quant_format), (weight, scale, *others), read)
