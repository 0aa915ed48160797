"""Models that give vectors: their configuration, their graph, and their tensors from wherever these are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..ir.graph import Module, Value
from .configs import DecoderConfig, EncoderConfig, Fields, VectorConfig
from .models import EncoderFamily, Family
from .models.builder import ModelBuilder
from .models.vectors import build_vectors
from .registry import find_encoder
from .sentence_transformers import SentenceTransformer
from .weights import Fitting, SelectedWeights, WeightSource, open_weights

__all__ = ["VectorModel", "load_encoder", "load_sentence_transformer"]

_UNUSED = re.compile(r"(embeddings\.(position_ids|token_type_ids)|pooler\..*)")
"""Tensors of encoders' checkpoints that no vector depends on, unless a head asks for them."""


@dataclass(frozen=True, slots=True)
class VectorModel:
    """A model taken in: see :class:`.load.Model`; ``settings`` are the files that ``vectors`` is from."""

    config: DecoderConfig | EncoderConfig
    vectors: VectorConfig
    module: Module
    weights: WeightSource
    folder: Path
    settings: tuple[Path, ...] = ()


def load_sentence_transformer(
    found: SentenceTransformer, config: Mapping[str, object], name: str
) -> VectorModel:
    """The model of a folder of ``sentence-transformers``; ``config`` is its transformer's ``config.json``.

    Raises:
        ConfigError: the transformer's configuration is malformed or not supported.
        WeightError: tensors are missing, extra, mis-shaped or mis-typed.
    """
    if (fields := Fields(config)).object("quantization_config") is not None:
        raise fields.refuse("quantization_config: give the unquantized checkpoint of this model")
    family = find_encoder(config)
    weights = dict(_transformer_weights(open_weights(found.transformer), family))
    for layer, folder in found.dense_folders.items():
        dense = open_weights(folder)
        weights |= {f"{layer}.{there.removeprefix('linear.')}": (dense, there) for there in dense.names}
    model = _build(family, config, found.vectors, SelectedWeights(weights), name, found.transformer)
    return replace(model, settings=found.files)


def load_encoder(family: EncoderFamily, config: Mapping[str, object], folder: Path, name: str) -> VectorModel:
    """The model of a folder of ``transformers``: one that scores pairs of texts, or an encoder alone.

    A plain encoder's vector is the mean of its states, as ``sentence-transformers`` takes it.

    Raises:
        ConfigError: the configuration is malformed or not supported.
        WeightError: tensors are missing, extra, mis-shaped or mis-typed.
    """
    source = open_weights(folder)
    (architecture, *_) = Fields(config).texts("architectures") or ("",)
    if architecture.endswith("ForSequenceClassification"):
        vectors = _rerank_config(family, config)
        weights: Mapping[str, tuple[WeightSource, str]] = {name: (source, name) for name in source.names}
    else:
        vectors = VectorConfig(task="embed", pooling="mean", layers=())
        weights = dict(_transformer_weights(source, family))
    return _build(family, config, vectors, SelectedWeights(weights), name, folder)


def _build(
    family: Family | EncoderFamily,
    config: Mapping[str, object],
    vectors: VectorConfig,
    weights: SelectedWeights,
    name: str,
    folder: Path,
) -> VectorModel:
    fitting = Fitting(weights)
    builder = ModelBuilder(fitting.declare)
    read, states = _encode(family, builder, config)
    module = build_vectors(builder, states, vectors, name)
    fitting.finish(ignored=[name for name in weights.names if _UNUSED.fullmatch(_bare(name, family))])
    return VectorModel(read, vectors, module, weights, folder)


def _encode(
    family: Family | EncoderFamily, builder: ModelBuilder, config: Mapping[str, object]
) -> tuple[DecoderConfig | EncoderConfig, Value]:
    if isinstance(family, EncoderFamily):
        encoder = family.from_hf(config)
        return encoder, family.encode(builder, encoder)
    decoder = family.from_hf(config)
    if family.encode is None:
        raise Fields(config).refuse(f"model type '{decoder.model_type}' gives no embeddings here")
    return decoder, family.encode(builder, decoder)


def _transformer_weights(
    source: WeightSource, family: Family | EncoderFamily
) -> Iterator[tuple[str, tuple[WeightSource, str]]]:
    """A transformer's tensors by the names they have beside a head, whether or not they are so here.

    Where there is a head, its tensors are left out.
    """
    beside_head = any(name.startswith(family.prefix) for name in source.names)
    for name in source.names:
        if not beside_head:
            yield family.prefix + name, (source, name)
        elif name.startswith(family.prefix):
            yield name, (source, name)


def _bare(name: str, family: Family | EncoderFamily) -> str:
    return name.removeprefix(family.prefix)


def _rerank_config(family: EncoderFamily, config: Mapping[str, object]) -> VectorConfig:
    """The head of a model that classifies: one label is a score, through a sigmoid unless it says otherwise.

    The saying is that of ``sentence-transformers``' cross-encoders.
    """
    fields = Fields(config)
    labels = fields.object("id2label")
    num_labels = len(labels.values) if labels is not None else fields.integer("num_labels", 2)
    if num_labels != 1:
        raise fields.refuse(f"'num_labels' is {num_labels}, and only models with one, a score, are supported")
    own = fields.object("sentence_transformers")
    name = fields.text("sbert_ce_default_activation_function", "")
    name = (own.text("activation_fn", name) if own is not None else name).rpartition(".")[2]
    if name not in ("", "Sigmoid", "Identity"):
        raise fields.refuse(f"activation '{name}' is not supported; supported are Sigmoid and Identity")
    return replace(family.rerank(family.from_hf(config)), is_probability=name != "Identity")
