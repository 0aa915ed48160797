"""How ``compressed-tensors`` lays out a matrix, by the name of its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ....ir.quantization import QuantFormat, QuantizedArray, find_format
from ....ir.types import TensorType
from ...configs import Fields
from .fp8 import float8_matrix
from .gptq import column_order
from .matrix import FLOAT_TYPES, AnyArray, StoredMatrix, StoredTensors, integer_matrix, name_format
from .packing import spread, unpack_bits, unpack_nibbles

__all__ = ["LAYOUTS", "Scheme"]

_STRATEGIES = ("tensor", "channel", "group", "block", "tensor_group")


@dataclass(frozen=True, slots=True)
class Scheme:
    """What ``weights`` of a group says. ``strategy`` is what shares a scale; a group's is ``group_size``.

    ``block`` are the outputs and inputs of a block.
    """

    layout: str
    bits: int
    is_float: bool
    strategy: str
    group_size: int | None
    is_symmetric: bool
    block: tuple[int, int] | None

    @classmethod
    def read(cls, layout: str, fields: Fields) -> Scheme:
        """Raises :class:`ConfigError` for a field that is not of its kind."""
        size = fields.values.get("group_size")
        size = None if size in (None, -1) else fields.integer("group_size")
        usual = (
            "tensor" if fields.values.get("group_size") is None else "channel" if size is None else "group"
        )
        strategy = fields.text("strategy", usual)
        if strategy not in _STRATEGIES or (size is None and strategy in ("group", "tensor_group")):
            raise fields.refuse(
                f"strategy '{strategy}' with group_size {size} is not supported; strategies are "
                f"{', '.join(_STRATEGIES)}"
            )
        block = fields.integers("block_structure")
        if block and (len(block) != 2 or 0 in block):
            raise fields.refuse(f"'block_structure' must be two positive numbers, not {list(block)}")
        return cls(
            layout=layout,
            bits=fields.integer("num_bits", 8),
            is_float=fields.text("type", "int") == "float",
            strategy=strategy,
            group_size=size,
            is_symmetric=fields.flag("symmetric", True),
            block=(block[0], block[1]) if block else None,
        )


def _packed(tensors: StoredTensors, module: str, scheme: Scheme) -> StoredMatrix:
    """``weight_packed``: codes from 0 on without gaps in words, ``weight_shape`` says how many."""
    _require_integers(tensors, module, scheme)
    weight, shape = f"{module}.weight_packed", f"{module}.weight_shape"
    tensors.shape(shape, ("I64", "I32"), 2)
    outputs, inputs = (int(dim) for dim in tensors.read(shape))
    if min(outputs, inputs) < 1:
        raise tensors.misfit(shape, f"is {outputs} x {inputs}")
    tensors.shape(weight, ("I32",), outputs, -(-inputs * scheme.bits // 32))

    def codes() -> npt.NDArray[np.uint8]:
        return unpack_bits(tensors.read(weight), scheme.bits, inputs)

    return _integers(tensors, module, scheme, (outputs, inputs), codes, (weight, shape))


def _whole(tensors: StoredTensors, module: str, scheme: Scheme) -> StoredMatrix:
    """``weight`` with a code in each byte, or 8-bit floats."""
    weight, scale = f"{module}.weight", f"{module}.weight_scale"
    if scheme.is_float:
        return float8_matrix(tensors, module, scale, _block(scheme))
    _require_integers(tensors, module, scheme)
    outputs, inputs = tensors.shape(weight, ("I8",), None, None)

    def codes() -> npt.NDArray[np.uint8]:
        return _from_zero(tensors.read(weight), scheme.bits)

    return _integers(tensors, module, scheme, (outputs, inputs), codes, (weight,))


def _block(scheme: Scheme) -> tuple[int, int] | None:
    """Outputs and inputs that share a scale, None where its shape says so."""
    return (1, scheme.group_size) if scheme.group_size is not None else scheme.block


def _require_integers(tensors: StoredTensors, module: str, scheme: Scheme) -> None:
    if scheme.is_float or not 2 <= scheme.bits <= 8 or scheme.strategy in ("block", "tensor_group"):
        kind = "floats" if scheme.is_float else "integers"
        raise tensors.misfit(
            f"{module}.weight_scale",
            f"belongs to {kind} of {scheme.bits} bits by {scheme.strategy}, which {scheme.layout} does not "
            "have; supported are integers of 2 to 8 bits by tensor, channel or group",
        )


def _from_zero(codes: AnyArray, bits: int) -> npt.NDArray[np.uint8]:
    """Two's complement as codes from 0 on."""
    return codes.view(np.uint8) + np.uint8(1 << (bits - 1))


def _integers(
    tensors: StoredTensors,
    module: str,
    scheme: Scheme,
    shape: tuple[int, int],
    codes: Callable[[], npt.NDArray[np.uint8]],
    parts: tuple[str, ...],
) -> StoredMatrix:
    scales, zeros, groups_of = (
        f"{module}.{part}" for part in ("weight_scale", "weight_zero_point", "weight_g_idx")
    )
    outputs, inputs = shape
    size = min(scheme.group_size or inputs, inputs)
    groups = -(-inputs // size)
    rows = _shape_of_factors(tensors, scales, FLOAT_TYPES, scheme, outputs, groups)
    if not scheme.is_symmetric:
        _check_zeros(tensors, zeros, scheme, outputs, groups)
    order = column_order(tensors, groups_of, inputs, size)
    quant_format = name_format(
        f"int{scheme.bits}", size, inputs, tensors.dtype(scales), "" if scheme.is_symmetric else "_z"
    )

    def spread_rows(factors: AnyArray) -> AnyArray:
        return spread(np.broadcast_to(factors.reshape(rows, groups), (outputs, groups)), size, inputs)

    def read() -> QuantizedArray:
        unpacked = codes()
        points = None
        if not scheme.is_symmetric:
            points = spread_rows(_zero_points(tensors.read(zeros), scheme.bits, rows))
        unpacked = unpacked if order is None else np.take(unpacked, order, axis=1)
        return integer_matrix(quant_format, unpacked, spread_rows(tensors.read(scales)), points)

    present = tensors.present(zeros, groups_of, *_others(module))
    return StoredMatrix(
        f"{module}.weight", TensorType(shape, quant_format), (*parts, scales, *present), read, order
    )


def _shape_of_factors(
    tensors: StoredTensors, name: str, dtypes: tuple[str, ...], scheme: Scheme, outputs: int, groups: int
) -> int:
    """Check scales, one for all or ``[outputs, groups]``, and give their rows."""
    if scheme.strategy != "tensor":
        tensors.shape(name, dtypes, outputs, groups)
        return outputs
    rank = len(tensors.weights.entry(name).shape) if tensors.holds(name) else 1
    tensors.shape(name, dtypes, *(1,) * rank)
    return 1


def _check_zeros(tensors: StoredTensors, name: str, scheme: Scheme, outputs: int, groups: int) -> None:
    if tensors.holds(name) and tensors.dtype(name) == "I32":
        tensors.shape(name, ("I32",), -(-outputs * scheme.bits // 32), groups)
    else:
        _shape_of_factors(tensors, name, ("I8",), scheme, outputs, groups)


def _zero_points(stored: AnyArray, bits: int, rows: int) -> npt.NDArray[np.uint8]:
    """Zero points from 0 on: of bytes, or of words that are packed along the outputs."""
    if stored.dtype == np.int8:
        return _from_zero(stored, bits)
    return unpack_bits(np.ascontiguousarray(stored.T), bits, rows).T


def _others(module: str) -> tuple[str, ...]:
    """Scales that were measured for rounding rows, which says nothing of the matrix."""
    return tuple(f"{module}.{part}" for part in ("input_scale", "input_zero_point", "input_global_scale"))


def _nvfp4(tensors: StoredTensors, module: str, scheme: Scheme) -> StoredMatrix:
    """Floats of 4 bits with 8-bit scales of 16, which ``weight_global_scale`` was multiplied into."""
    weight, scales, whole = (
        f"{module}.{part}" for part in ("weight_packed", "weight_scale", "weight_global_scale")
    )
    outputs, octets = tensors.shape(weight, ("U8",), None, None)
    tensors.shape(scales, ("F8_E4M3",), outputs, octets // 8)
    tensors.shape(whole, ("F32",), 1)
    quant_format = find_format("nvfp4")

    def read() -> QuantizedArray:
        half = np.float32(0.5) / tensors.read(whole)  # the values of the format's codes are doubled
        return QuantizedArray(
            quant_format,
            unpack_nibbles(tensors.read(weight)),
            tensors.read(scales),
            super_scales=np.broadcast_to(half, (outputs, 1)),
        )

    return _of_floats(tensors, module, (outputs, octets * 2), quant_format, (weight, scales, whole), read)


def _mxfp4(tensors: StoredTensors, module: str, scheme: Scheme) -> StoredMatrix:
    """Floats of 4 bits with powers of two for 32 of them."""
    weight, scales = f"{module}.weight_packed", f"{module}.weight_scale"
    outputs, octets = tensors.shape(weight, ("U8",), None, None)
    tensors.shape(scales, ("U8", "F8_E8M0"), outputs, octets // 16)
    quant_format = find_format("mxfp4")

    def read() -> QuantizedArray:
        return QuantizedArray(quant_format, unpack_nibbles(tensors.read(weight)), tensors.read(scales))

    return _of_floats(tensors, module, (outputs, octets * 2), quant_format, (weight, scales), read)


def _of_floats(
    tensors: StoredTensors,
    module: str,
    shape: tuple[int, int],
    quant_format: QuantFormat,
    parts: tuple[str, ...],
    read: Callable[[], QuantizedArray],
) -> StoredMatrix:
    if shape[1] % quant_format.block_size:
        raise tensors.misfit(
            parts[0], f"has {shape[1]} inputs, which are no whole groups of {quant_format.block_size}"
        )
    others = tensors.present(*_others(module))
    return StoredMatrix(f"{module}.weight", TensorType(shape, quant_format), (*parts, *others), read)


LAYOUTS: Mapping[str, Callable[[StoredTensors, str, Scheme], StoredMatrix]] = MappingProxyType(
    {
        "pack-quantized": _packed,
        "int-quantized": _whole,
        "float-quantized": _whole,
        "naive-quantized": _whole,
        "mxfp8-quantized": _whole,
        "nvfp4-pack-quantized": _nvfp4,
        "mxfp4-pack-quantized": _mxfp4,
    }
)
"""By the name of the format."""
