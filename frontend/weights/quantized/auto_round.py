"""AutoRound's matrices (Cheng et al., 2023), which it saves as GPTQ or AWQ does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ...configs import Fields
from . import awq, gptq
from .matrix import StoredMatrix, StoredTensors

__all__ = ["find_matrices"]

_PACKINGS = ("auto_round:auto_gptq", "auto_round:auto_awq")


def find_matrices(config: Fields, tensors: StoredTensors) -> Iterator[StoredMatrix]:
    """Every matrix of a checkpoint; ``extra_config`` has, by names of modules, what differs for them."""
    packing = config.text("packing_format", _PACKINGS[0])
    if packing not in _PACKINGS or (kind := config.text("data_type", "int")) != "int":
        what = f"packing_format '{packing}'" if packing not in _PACKINGS else f"data_type '{kind}'"
        raise config.refuse(f"{what} is not supported; supported are integers as {' and '.join(_PACKINGS)}")
    if packing == "auto_round:auto_awq":
        return awq.find_matrices(config, tensors)
    extra = config.object("extra_config") or Fields({}, config.where)
    dynamic = {
        f"{re.escape(module)}$": settings
        for module in extra.values
        if (settings := _settings(extra, module)) is not None
    }
    return gptq.find_matrices(Fields({**config.values, "dynamic": dynamic}, config.where), tensors)


def _settings(extra: Fields, module: str) -> Mapping[str, object] | None:
    """What ``extra_config`` says of a module, None where that is not to quantize it."""
    settings = extra.object(module)
    return None if settings is None or settings.integer("bits", 4) > 8 else settings.values
