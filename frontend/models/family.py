"""What a family of models has to say for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...ir.graph import Module
from ..configs import DecoderConfig
from .builder import ModelBuilder

__all__ = ["Family"]


@dataclass(frozen=True, slots=True)
class Family:
    """A family of models.

    Attributes:
        from_hf: reads a ``config.json``; raises :class:`ConfigError`.
        build: the model of a configuration as a module of plain operators, given its name.
        embedding: the name of the embedding's tensor.
        head: the name of the head's tensor, which a checkpoint may hold although it is tied to the embedding.
    """

    from_hf: Callable[[Mapping[str, object]], DecoderConfig]
    build: Callable[[ModelBuilder, DecoderConfig, str], Module]
    embedding: str = "model.embed_tokens.weight"
    head: str = "lm_head.weight"
