"""Latent attention's projection to keys and values, which files have in two parts.

Conversions part it so that latents need not be expanded, and turn the part of keys around. The model as its
authors wrote it needs the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...ir.errors import WeightError
from ...ir.operator import Array
from ...ir.quantization import QuantizedArray, dequantize
from ...ir.types import ScalarType, TensorType
from .stored_tensor import StoredTensor

__all__ = ["LATENT_PARTS", "JoinedLatents", "join_latents"]

_KEYS, _VALUES, _WHOLE = "self_attn.k_b_proj", "self_attn.v_b_proj", "self_attn.kv_b_proj.weight"

LATENT_PARTS: Mapping[str, str] = {"attn_k_b": _KEYS, "attn_v_b": _VALUES}
"""Names for both parts, by those in files."""


@dataclass(frozen=True, slots=True)
class JoinedLatents:
    """``[heads * (own + value), rank]``, of keys ``[heads, rank, own]``, values ``[heads, value, rank]``."""

    keys: StoredTensor
    values: StoredTensor

    @property
    def path(self) -> Path:
        """The file of the part for keys."""
        return self.keys.path

    @property
    def type(self) -> TensorType | None:
        """Its type, None where the parts are of types that cannot be read.

        Blocks lie along a head's own part in keys and along the rank in values, so that the whole is float32
        where a part is quantized: what its blocks stand for, exactly.
        """
        keys, values = self.keys.type, self.values.type
        if keys is None or values is None:
            return None
        is_plain = keys.element == values.element and isinstance(keys.element, ScalarType)
        heads, rank, own = self.keys.shape
        element = keys.element if is_plain else ScalarType.FLOAT32
        return TensorType((heads * (own + self.values.shape[1]), rank), element)

    def __str__(self) -> str:
        return f"{self.keys} and {self.values}"

    def read(self) -> Array:
        """Its values; raises :class:`WeightError` where a part cannot be read."""
        keys, values = (_plain(part.read()) for part in (self.keys, self.values))
        whole = np.concatenate([keys.swapaxes(1, 2), values], axis=1)
        return whole.reshape(-1, whole.shape[-1])


def _plain(array: Array) -> npt.NDArray[np.generic]:
    return dequantize(array) if isinstance(array, QuantizedArray) else array


def join_latents(tensors: Mapping[str, StoredTensor]) -> Mapping[str, StoredTensor | JoinedLatents]:
    """``tensors``, with the whole in place of its parts.

    Raises:
        WeightError: the parts do not fit together.
    """
    joined: dict[str, StoredTensor | JoinedLatents] = dict(tensors)
    for name, keys in tensors.items():
        if not name.endswith(f"{_KEYS}.weight"):
            continue
        prefix = name.removesuffix(f"{_KEYS}.weight")
        values = tensors.get(f"{prefix}{_VALUES}.weight")
        if values is None or len(keys.shape) != 3 or len(values.shape) != 3:
            raise WeightError(
                f"{keys.path}: tensor '{keys.name}' is no part of a projection to keys and values"
            )
        if keys.shape[:2] != (values.shape[0], values.shape[2]):
            raise WeightError(f"{keys.path}: {keys} and {values} are no parts of one projection")
        del joined[name], joined[f"{prefix}{_VALUES}.weight"]
        joined[f"{prefix}{_WHOLE}"] = JoinedLatents(keys, values)
    return joined
