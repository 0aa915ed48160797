"""A quantized matrix as a checkpoint holds it: in several tensors, and one as the model asks for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ....ir.errors import WeightError
from ....ir.quantization import QuantFormat, QuantizedArray, find_format
from ....ir.types import TensorType
from ...configs import Fields
from ..source import FileWeights
from .packing import common_size

__all__ = [
    "FLOAT_TYPES",
    "AnyArray",
    "StoredMatrix",
    "StoredTensors",
    "integer_matrix",
    "matches",
    "name_format",
    "signed",
]

AnyArray = npt.NDArray[Any]

_SCALES = {"F16": "f16", "BF16": "bf16", "F32": "f32", "F8_E8M0": "e8m0", "U8": "e8m0"}
"""How the names of formats call what scales are."""

FLOAT_TYPES = ("F16", "BF16", "F32")
"""What scales mostly are, in the file's words."""


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """A matrix that several tensors make up.

    Attributes:
        name: by what the model asks for it.
        type: its logical shape and its format.
        parts: the tensors it is made of, and those that go with it and say nothing of values.
        read: its codes, scales and what else there is.
        order: where the columns are not kept in the order of the inputs: the input of each, int32.
    """

    name: str
    type: TensorType
    parts: tuple[str, ...]
    read: Callable[[], QuantizedArray]
    order: npt.NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class StoredTensors:
    """A checkpoint's tensors, asked for with what they have to be; ``method`` is who laid them out."""

    weights: FileWeights
    method: str

    def modules_with(self, part: str) -> Iterator[str]:
        """Modules that have a tensor called ``part``, sorted."""
        suffix = f".{part}"
        return (name.removesuffix(suffix) for name in self.weights.names if name.endswith(suffix))

    def holds(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return self.weights.holds(name)

    def present(self, *names: str) -> tuple[str, ...]:
        """Those of ``names`` that there are."""
        return tuple(name for name in names if self.holds(name))

    def dtype(self, name: str) -> str:
        """A tensor's type in the file's words."""
        return self.weights.entry(name).dtype

    def shape(self, name: str, dtypes: tuple[str, ...], *wanted: int | None) -> tuple[int, ...]:
        """The shape of a tensor of one of ``dtypes``; None in ``wanted`` is any number.

        Raises:
            WeightError: there is none, or it is of another type or shape.
        """
        if not self.holds(name):
            raise WeightError(
                f"the checkpoint in {self.weights.files[0].parent} lacks the tensor '{name}', which a matrix "
                f"quantized by {self.method} needs"
            )
        entry = self.weights.entry(name)
        fits = len(entry.shape) == len(wanted) and all(
            want is None or dim == want for dim, want in zip(entry.shape, wanted, strict=True)
        )
        if entry.dtype not in dtypes or not fits:
            dims = ", ".join("any" if want is None else str(want) for want in wanted)
            raise WeightError(
                f"tensor '{name}' in {self.weights.locate(name)} is {entry.dtype}{list(entry.shape)} where "
                f"{self.method} has {' or '.join(dtypes)}[{dims}]"
            )
        return entry.shape

    def read(self, name: str) -> AnyArray:
        """A tensor's values; floats of eight bits as bytes."""
        return self.weights.read_stored(name)

    def misfit(self, name: str, reason: str) -> WeightError:
        """The error that says ``reason`` of a tensor, for the caller to raise."""
        return WeightError(f"tensor '{name}' in {self.weights.locate(name)} {reason}")


def matches(pattern: str, module: str, config: Fields) -> bool:
    """Whether a module's name begins as a regular expression of ``config`` says."""
    try:
        return re.match(pattern, module) is not None
    except (re.error, RecursionError, OverflowError) as error:
        raise config.refuse(f"'{pattern}' is no regular expression: {error}") from None


def name_format(kind: str, size: int | None, inputs: int, scale: str, zero: str = "") -> QuantFormat:
    """The format of groups of ``size`` (None: whole rows) in rows of ``inputs``.

    ``kind`` is ``int4``, ``fp8_e4m3``, ...; ``scale`` the type of the scales in the file's words; ``zero`` is
    ``_z`` or ``_fz`` where there are zero points.
    """
    common = None if size is None else common_size(size, inputs)
    groups = "row" if common is None else f"g{common}"
    factor = _SCALES[scale]
    usual = "f16" if kind.startswith("int") else "f32"
    return find_format(f"{kind}_{groups}{zero}{'' if factor == usual else f'_{factor}'}")


def signed(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.int8]:
    """Codes from 0 on as two's complement, moved by half their range."""
    return (codes - np.uint8(1 << (bits - 1))).view(np.int8)


def integer_matrix(
    quant_format: QuantFormat, codes: npt.NDArray[np.uint8], scales: AnyArray, zeros: AnyArray | None
) -> QuantizedArray:
    """Codes from 0 on, ``[outputs, inputs]``, in a format with zero points, or in one without.

    Scales and zero points are those of the format's groups.
    """
    if quant_format.offset is None:
        return QuantizedArray(quant_format, signed(codes, quant_format.bits), scales)
    return QuantizedArray(quant_format, np.ascontiguousarray(codes), scales, zeros)
