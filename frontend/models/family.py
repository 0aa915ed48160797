"""What a family of models has to say for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...ir.graph import Module, Value
from ..configs import DecoderConfig, EncoderConfig, VectorConfig
from .builder import ModelBuilder

__all__ = ["EncoderFamily", "Family"]


@dataclass(frozen=True, slots=True)
class Family:
    """A family of models.

    Attributes:
        from_hf: reads a ``config.json``; raises :class:`ConfigError`.
        build: the model of a configuration as a module of plain operators, given its name.
        embedding: the name of the embedding's tensor.
        head: the name of the head's tensor, which a checkpoint may hold although it is tied to the embedding.
        encode: the states ``[tokens, hidden_size]`` of a configuration's model, for one that gives vectors.
        prefix: what the names of all tensors but the head's begin with, where the head is there.
        left_out: what the names of tensors begin with that a checkpoint may hold and that give no next token,
            such as layers that guess further ones.
        renamings: what the names of tensors begin with here, and in a checkpoint, where they differ: several
            such pairs for each of the ways in which checkpoints are written. The first is taken whose names
            the checkpoint has.
    """

    from_hf: Callable[[Mapping[str, object]], DecoderConfig]
    build: Callable[[ModelBuilder, DecoderConfig, str], Module]
    embedding: str = "model.embed_tokens.weight"
    head: str = "lm_head.weight"
    encode: Callable[[ModelBuilder, DecoderConfig], Value] | None = None
    prefix: str = "model."
    left_out: tuple[str, ...] = ()
    renamings: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EncoderFamily:
    """A family of models that give vectors, and generate nothing.

    Attributes:
        from_hf: reads a ``config.json``; raises :class:`ConfigError`.
        encode: the states ``[tokens, hidden_size]`` of a configuration's model.
        prefix: what the names of its tensors begin with in checkpoints that hold a head too.
        rerank: the layers that make the first token's state the score of a pair of texts.
    """

    from_hf: Callable[[Mapping[str, object]], EncoderConfig]
    encode: Callable[[ModelBuilder, EncoderConfig], Value]
    prefix: str
    rerank: Callable[[EncoderConfig], VectorConfig]
