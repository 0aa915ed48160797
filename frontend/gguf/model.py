"""A GGUF file, or those of a split model, as configuration and weights of a family that is defined here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ...ir.errors import ConfigError
from ..configs import DecoderConfig, NormForm
from ..models import Family
from ..registry import find_family
from .config import find_architecture, read_config
from .facts import Facts
from .splits import gguf_name, open_parts
from .tokenizer import tokenizer_files
from .vocabulary import Vocabulary
from .weights import GgufWeights

__all__ = ["GgufModel", "open_gguf"]


@dataclass(frozen=True, slots=True)
class GgufModel:
    """What a model's files say.

    Attributes:
        name: what to call the model, after its file.
        family: how it is built.
        config: its configuration.
        weights: its tensors, by the names of a checkpoint.
        tokenizer_files: makes the files of its tokenizer, by name; raises :class:`ConfigError`.
    """

    name: str
    family: Family
    config: DecoderConfig
    weights: GgufWeights
    tokenizer_files: Callable[[], Mapping[str, str]]


def open_gguf(path: Path) -> GgufModel:
    """Open the model of which ``path`` is a file. Headers are read and checked, values are mapped when read.

    Raises:
        WeightError: a file is missing or not of the format.
        ConfigError: the architecture, or something its metadata say, is not supported.
    """
    facts = Facts.of(open_parts(path))
    metadata = facts.files[0].metadata
    architecture = find_architecture(facts)
    fields = read_config(facts, architecture)
    try:
        family = find_family(fields)
        assert isinstance(family, Family)
        config = family.from_hf(fields)
    except ConfigError as error:
        raise ConfigError(f"{path}, whose metadata stand for a config.json: {error}") from error
    if architecture.whole_norms:
        config = replace(config, norm=NormForm.RMS)
    weights = GgufWeights(facts, architecture, num_heads=config.num_heads, num_kv_heads=config.num_kv_heads)
    ends = Vocabulary.of(facts.path, metadata).ends() if "tokenizer.ggml.tokens" in metadata else ()
    config = replace(config, eos_token_ids=ends)
    return GgufModel(
        gguf_name(path.name), family, config, weights, partial(tokenizer_files, facts.path, metadata)
    )
