"""GPTQ's matrices (Frantar et al., 2022), as AutoGPTQ and GPTQModel save them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ....ir.quantization import QuantizedArray
from ....ir.types import TensorType
from ...configs import Fields
from .matrix import (
    FLOAT_TYPES,
    AnyArray,
    StoredMatrix,
    StoredTensors,
    integer_matrix,
    matches,
    name_format,
)
from .packing import spread, unpack_bits

__all__ = ["column_order", "find_matrices"]

_BITS = (2, 3, 4, 8)

_ONES = {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}
"""A one in each number of a word."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """What ``quantization_config`` says of a module; groups of None are whole rows."""

    bits: int
    group_size: int | None
    is_symmetric: bool
    less_one: bool

    @classmethod
    def read(cls, config: Fields) -> _Settings:
        layout = config.text("checkpoint_format", config.text("format", "gptq")).lower()
        if layout not in ("gptq", "gptq_v2"):
            raise config.refuse(f"checkpoint_format '{layout}' is not supported; gptq and gptq_v2 are")
        if config.flag("is_marlin_format", False):
            raise config.refuse(
                "'is_marlin_format' is not supported; give the checkpoint in GPTQ's own layout"
            )
        if (words := config.text("pack_dtype", "int32")) != "int32":
            raise config.refuse(f"pack_dtype '{words}' is not supported; int32 is")
        bare = cls(bits=4, group_size=None, is_symmetric=True, less_one=layout == "gptq")
        return bare.with_overrides(config, config.integer("bits"), 128)

    def with_overrides(self, config: Fields, bits: int, group_size: int | None) -> _Settings:
        """The same with what an object of ``dynamic`` says otherwise."""
        bits = config.integer("bits", bits)
        if bits not in _BITS:
            raise config.refuse(f"{bits} bits are not supported; {', '.join(map(str, _BITS))} are")
        if config.has("group_size"):
            whole_rows = config.values["group_size"] == -1
            group_size = None if whole_rows else config.integer("group_size")
        is_symmetric = config.flag("sym", self.is_symmetric)
        return replace(self, bits=bits, group_size=group_size, is_symmetric=is_symmetric)


def find_matrices(config: Fields, tensors: StoredTensors) -> Iterator[StoredMatrix]:
    """Every matrix of a checkpoint: ``qweight`` packed along the inputs, ``qzeros`` along the outputs.

    ``scales`` are ``[groups, outputs]``, and ``g_idx`` has the group of each input, which act-order mixes.
    """
    settings = _Settings.read(config)
    dynamic = config.object("dynamic") or Fields({}, config.where)
    for module in tensors.modules_with("qweight"):
        yield _matrix(tensors, module, _of_module(settings, dynamic, module))


def _of_module(settings: _Settings, dynamic: Fields, module: str) -> _Settings:
    """The settings for a module, by the first pattern of ``dynamic`` that fits the beginning of its name."""
    for pattern in dynamic.values:
        if matches(pattern.removeprefix("+:"), module, dynamic):
            overrides = dynamic.object(pattern) or Fields({}, dynamic.where)
            return settings.with_overrides(overrides, settings.bits, settings.group_size)
    return settings


def _matrix(tensors: StoredTensors, module: str, settings: _Settings) -> StoredMatrix:
    names = {part: f"{module}.{part}" for part in ("qweight", "qzeros", "scales", "g_idx")}
    bits = settings.bits
    words, outputs = tensors.shape(names["qweight"], ("I32",), None, None)
    inputs = words * 32 // bits
    size = min(settings.group_size or inputs, inputs)
    groups = -(-inputs // size)
    tensors.shape(names["qzeros"], ("I32",), groups, -(-outputs * bits // 32))
    tensors.shape(names["scales"], FLOAT_TYPES, groups, outputs)
    order = column_order(tensors, names["g_idx"], inputs, size)

    def zeros() -> npt.NDArray[np.uint8]:
        """Zero points ``[groups, outputs]``."""
        return _zero_points(tensors.read(names["qzeros"]), settings, outputs)

    def read() -> QuantizedArray:
        packed = np.ascontiguousarray(tensors.read(names["qweight"]).T)
        codes = unpack_bits(packed, bits, inputs)
        scales, points = (spread(array.T, size, inputs) for array in (tensors.read(names["scales"]), zeros()))
        codes = codes if order is None else np.take(codes, order, axis=1)
        return integer_matrix(quant_format, codes, scales, points)

    about_middle = settings.is_symmetric and bool((zeros() == 1 << (bits - 1)).all())
    quant_format = name_format(
        f"int{bits}", size, inputs, tensors.dtype(names["scales"]), "" if about_middle else "_z"
    )
    return StoredMatrix(
        f"{module}.weight",
        TensorType((outputs, inputs), quant_format),
        tensors.present(*names.values()),
        read,
        order,
    )


def _zero_points(words: AnyArray, settings: _Settings, outputs: int) -> npt.NDArray[np.uint8]:
    """Zero points ``[groups, outputs]`` from ``qzeros``.

    Version 1 keeps them less one. It is taken from, and given back to, whole words: so a zero point of 0
    borrows from its neighbours, which get it back here. Only with 3 bits, where numbers go on in the next
    word, each has its own.
    """
    bits = settings.bits
    if settings.less_one and bits in _ONES:
        words = words.view(np.uint32) + np.uint32(_ONES[bits])
    points = unpack_bits(words, bits, outputs)
    if settings.less_one and bits not in _ONES:
        points = points + np.uint8(1) & np.uint8((1 << bits) - 1)
    return points


def column_order(tensors: StoredTensors, name: str, inputs: int, size: int) -> npt.NDArray[np.int32] | None:
    """The order that brings together the inputs of each group, by the tensor with the group of each input.

    None where they are together already. Raises :class:`WeightError` for groups that are not of ``size``.
    """
    if not tensors.holds(name):
        return None
    tensors.shape(name, ("I32", "I64"), inputs)
    groups = tensors.read(name)
    wanted = np.arange(inputs) // size
    if (
        np.array_equal(groups, wanted) or (groups < 0).any()
    ):  # compressed-tensors' way to say that none is set
        return None
    order = np.argsort(groups, kind="stable")
    if not np.array_equal(groups[order], wanted):
        raise tensors.misfit(name, f"does not put the {inputs} inputs into groups of {size}")
    return order.astype(np.int32)
