"""Values of the buffers that no checkpoint holds."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import PreTrainedModel

__all__ = ["buffer_values", "is_known"]


def buffer_values(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Values of the buffers that no checkpoint holds, made as ``transformers`` makes them when it loads one.

    It too builds models without memory, and leaves such buffers to ``_init_weights``.
    """
    made: dict[str, tuple[torch.nn.Module, str]] = {}
    for path, module in model.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and name in module._non_persistent_buffers_set:
                unknown = torch.full(buffer.shape, _unknown(buffer.dtype), dtype=buffer.dtype)
                module._buffers[name] = unknown
                made[f"{path}.{name}" if path else name] = module, name
    paths = {module: path for path, module in model.named_modules()}
    owners = {module for module, _ in made.values()}
    with torch.no_grad():
        for module in owners:
            _nearest_pretrained(model, paths[module])._init_weights(module)
        if not all(is_known(cast(torch.Tensor, module._buffers[name])) for module, name in made.values()):
            for module in paths:  # a model may give the modules within it their values
                if isinstance(module, PreTrainedModel):
                    module._init_weights(module)
    return {name: cast(torch.Tensor, module._buffers[key]) for name, (module, key) in made.items()}


def _unknown(dtype: torch.dtype) -> float:
    """What stands in a buffer until it is given its values: no value that one has."""
    if dtype is torch.bool:
        return False
    return float("nan") if dtype.is_floating_point or dtype.is_complex else torch.iinfo(dtype).min


def is_known(buffer: torch.Tensor) -> bool:
    """Whether a buffer of :attr:`Trace.constants` was given its values."""
    if buffer.dtype is torch.bool:
        return True
    if buffer.is_floating_point() or buffer.is_complex():
        return not bool(buffer.isnan().any())
    return not bool((buffer == torch.iinfo(buffer.dtype).min).any())


def _nearest_pretrained(model: PreTrainedModel, path: str) -> PreTrainedModel:
    """The innermost model around the module at ``path``: it knows how its modules are initialised."""
    nearest = model
    module: Any = model
    for part in path.split(".") if path else ():
        module = getattr(module, part)
        if isinstance(module, PreTrainedModel):
            nearest = module
    return nearest
