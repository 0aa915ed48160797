"""A tensor in a format: its component arrays, and the values they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from ..errors import IRError
from .factors import decode_factor, in_groups
from .format import FloatArray, OffsetRole, QuantFormat

__all__ = ["QuantizedArray", "dequantize", "scales_and_zeros"]

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class QuantizedArray:
    """A tensor in ``format``, whose logical shape is that of ``codes`` ``[..., n]``.

    ``scales`` and ``offsets`` are ``[..., n / group size]``, those of super-blocks likewise; None are those
    that the format does not have. All have the same leading dimensions, so that a row's parts are found at
    the same place in each. Codes are not packed: one a byte.

    Raises :class:`IRError` where an array is missing or too many, of another dtype, or of another shape.
    """

    format: QuantFormat
    codes: AnyArray
    scales: AnyArray
    offsets: AnyArray | None = None
    super_scales: AnyArray | None = None
    super_offsets: AnyArray | None = None

    def __post_init__(self) -> None:
        wanted = {component.name: component for component in self.format.components}
        for name in ("codes", "scales", "offsets", "super_scales", "super_offsets"):
            array: AnyArray | None = getattr(self, name)
            component = wanted.get(name)
            if (array is None) != (component is None):
                has = "has no" if component is None else "needs"
                raise IRError(f"format {self.format.name} {has} {name}")
            if array is None or component is None:
                continue
            lead, width = self.codes.shape[:-1], self.codes.shape[-1]
            shape = (*lead, 1 if component.size is None else width // component.size)
            if array.shape != shape or array.dtype != component.dtype:
                raise IRError(
                    f"{name} of {self.format.name}{list(self.codes.shape)} must be {component.dtype} "
                    f"{list(shape)}, not {array.dtype} {list(array.shape)}"
                )
        if self.codes.shape[-1] % self.format.block_size:
            raise IRError(
                f"{self.codes.shape[-1]} elements are no whole blocks of {self.format.block_size}, "
                f"as {self.format.name} has"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The logical shape."""
        return self.codes.shape

    @property
    def components(self) -> Mapping[str, AnyArray]:
        """Every array there is, by name, in the order of the format's components."""
        return {component.name: getattr(self, component.name) for component in self.format.components}

    def map(self, function: Callable[[AnyArray], AnyArray]) -> QuantizedArray:
        """``function`` of every component: what picks, joins or reshapes rows does so to each alike."""
        return QuantizedArray(self.format, **{k: function(array) for k, array in self.components.items()})

    def __getitem__(self, index: Any) -> QuantizedArray:
        """The rows at ``index``, which leaves the last dimension whole."""
        return self.map(lambda array: array[index])


def scales_and_zeros(array: QuantizedArray) -> tuple[FloatArray, FloatArray | None]:
    """Scales ``[..., groups]``, and what code zero stands for in each group where that is not zero."""
    quant_format = array.format
    scales = decode_factor(quant_format.scale, array.scales, array.super_scales)
    if quant_format.offset is None or array.offsets is None:
        return scales, None
    offsets = decode_factor(quant_format.offset.factor, array.offsets, array.super_offsets)
    match quant_format.offset.role:
        case OffsetRole.ADDED:
            return scales, offsets
        case OffsetRole.SUBTRACTED:
            return scales, -offsets
        case OffsetRole.ZERO_POINT:
            return scales, -scales * offsets


def dequantize(array: QuantizedArray) -> FloatArray:
    """Values of ``array`` as float32, in its logical shape.

    Operations are those of ``gguf`` and of each library's reference, in their order, each rounded to float32.
    """
    quant_format = array.format
    values = in_groups(quant_format.codes.decode(array.codes), quant_format.group_size)
    scales = decode_factor(quant_format.scale, array.scales, array.super_scales)[..., None]
    if quant_format.offset is None or array.offsets is None:
        return (scales * values).reshape(array.shape)
    offsets = decode_factor(quant_format.offset.factor, array.offsets, array.super_offsets)[..., None]
    match quant_format.offset.role:
        case OffsetRole.ADDED:
            result = scales * values + offsets
        case OffsetRole.SUBTRACTED:
            result = scales * values - offsets
        case OffsetRole.ZERO_POINT:
            result = scales * (values - offsets)
    return result.reshape(array.shape)
