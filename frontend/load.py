"""From a folder or a hub id to a model: configuration, graph in plain operators, weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..ir.errors import CompileError, ConfigError, ModelError
from ..ir.graph import Module
from ..ir.operator import Array
from ..ir.quantization import QuantizedArray
from .configs import DecoderConfig, EncoderConfig, Fields, TracedConfig, VectorConfig
from .gguf import open_gguf
from .json_file import read_json
from .load_vectors import VectorModel, load_encoder, load_sentence_transformer
from .models import EncoderFamily, Family
from .models.builder import ModelBuilder
from .progress import DownloadProgress
from .registry import find_family, is_registered
from .sentence_transformers import read_modules
from .torch_export import can_trace, export_model, require_transformers
from .weights import (
    QUANTIZATION_FILES,
    Fitting,
    QuantizedWeights,
    SourceFile,
    WeightSource,
    hash_files,
    open_quantized,
    open_weights,
)

__all__ = ["FRONTENDS", "Model", "load_model"]

_LOG = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[^\s@]+)?")
_COMPARED_ROWS = 4096

GGUF_SUFFIX = ".gguf"
"""What the names of files end with that are a model each, or a numbered part of one."""

FRONTENDS = ("auto", "native", "export")
"""How a graph comes about: by the family's definition here, by tracing what transformers builds, or by the
first of these that there is."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model taken in.

    Attributes:
        name: what people call it: the folder's name, or the last part of the hub id.
        config: what ``config.json`` says.
        module: the graph, stage ``plain``; its parameters are the checkpoint's tensors by name.
        weights: these tensors.
        folder: where the files lie; tokenizer and chat template are there too.
        vectors: for a model that gives a vector for a sequence and generates nothing, how it does.
        settings: files besides ``config.json`` that say so.
        tokenizer: makes the files of the tokenizer, by name, for a model that is one file with all in it;
            None where ``folder`` has them.
        origins: for a model that was traced, where in its source each value of the graph is computed, by the
            value's name: operator, module and line.
    """

    name: str
    config: DecoderConfig | EncoderConfig | TracedConfig
    module: Module
    weights: WeightSource
    folder: Path
    vectors: VectorConfig | None = None
    settings: tuple[Path, ...] = ()
    tokenizer: Callable[[], Mapping[str, str]] | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def max_seq_len(self) -> int:
        """The longest sequence the model was made for, in tokens."""
        longest = self.config.max_position_embeddings
        if self.vectors is None or self.vectors.max_seq_len is None:
            return longest
        return min(longest, self.vectors.max_seq_len)

    def provenance(self) -> tuple[SourceFile, ...]:
        """Names, sizes and hashes of the files the module and its weights are from.

        All bytes are read, which takes about a second a gigabyte; raises :class:`WeightError` where
        they cannot be.
        """
        if self.tokenizer is not None:
            return hash_files(self.weights.files)
        named = (
            self.folder / name for name in ("config.json", "generation_config.json", *_index(self.weights))
        )
        return hash_files([*(path for path in named if path.is_file()), *self.settings, *self.weights.files])

    def provenance_later(self) -> Future[tuple[SourceFile, ...]]:
        """:meth:`provenance`, computed beside what the caller does meanwhile."""
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="provenance")
        try:
            return pool.submit(self.provenance)
        finally:
            pool.shutdown(wait=False)


def _index(weights: WeightSource) -> tuple[str, ...]:
    indexes = {".safetensors": "model.safetensors.index.json", ".bin": "pytorch_model.bin.index.json"}
    suffix = weights.files[0].suffix
    return (indexes[suffix],) if len(weights.files) > 1 and suffix in indexes else ()


def load_model(
    source: str | Path,
    *,
    frontend: str = "auto",
    token: str | None = None,
    progress: DownloadProgress | None = None,
) -> Model:
    """Take a model in. Only headers are read: weights stay in their files until they are asked for.

    Args:
        source: a Hugging Face folder, a GGUF file, or a hub id, ``org/name`` or ``org/name@revision``, with
            ``:FILE.gguf`` behind it for one file of a repository. A folder that exists is taken as one, even
            if it could be a hub id.
        frontend: one of :data:`FRONTENDS`.
        token: for the hub; without it ``HF_TOKEN`` or the login's.
        progress: told of bytes as they are downloaded.

    Raises:
        ConfigError: the configuration is missing, malformed or not supported.
        WeightError: tensors are missing, extra, mis-shaped, mis-typed or truncated.
        HubError: the repository cannot be had.
        ModelError: ``source`` is neither a folder, nor a GGUF file, nor a hub id.
        CompileError: the model cannot be traced, where it has to be.
    """
    if frontend not in FRONTENDS:
        raise CompileError(f"no frontend '{frontend}'; frontends: {', '.join(FRONTENDS)}")
    path, text = Path(source).expanduser(), str(source)
    if text and path.is_dir():
        return _load_folder(path, path.resolve().name, frontend)
    if path.is_file():
        if path.suffix.lower() != GGUF_SUFFIX:
            raise ModelError(
                f"{text} is a file: give the folder with config.json and model.safetensors, or a GGUF file"
            )
        return _load_gguf(path, frontend)
    repository, _, file = text.partition(":")
    if not file and path.suffix.lower() == GGUF_SUFFIX:
        raise ModelError(f"there is no file {text}; one of a repository is org/name:FILE.gguf")
    if path.suffix == ".ingot":
        raise ModelError(f"there is no artifact {text}")
    if isinstance(source, Path) or not _HUB_ID.fullmatch(repository) or not _is_file_of_hub(file):
        raise ModelError(
            f"'{text}' is neither a folder that exists nor a hub id like org/name or org/name@revision; "
            "one GGUF file is PATH.gguf, or org/name:FILE.gguf"
        )
    from .hub import fetch_gguf, fetch_repository  # imports an HTTP client, which folders do without

    repository, _, revision = repository.partition("@")
    if file:
        fetched = fetch_gguf(repository, file, revision=revision or None, token=token, progress=progress)
        return _load_gguf(fetched, frontend)
    folder = fetch_repository(repository, revision=revision or None, token=token, progress=progress)
    return _load_folder(folder, repository.rpartition("/")[2], frontend)


def _load_folder(folder: Path, name: str, frontend: str) -> Model:
    modules = read_modules(folder)
    transformer = folder if modules is None else modules.transformer
    fields = _read_json(transformer / "config.json")
    if fields is None:
        raise ConfigError(_explain_absence(transformer))
    if frontend == "export":
        require_transformers("the frontend 'export' traces models")
        if modules is not None:
            raise CompileError(f"{folder} gives embeddings, and only models that generate text are traced")
        return _trace(folder, name)
    if modules is None and frontend == "auto" and not is_registered(fields) and can_trace(fields):
        _LOG.info("%s is of no family defined here: it is traced", folder)
        return _trace(folder, name)
    try:
        if modules is not None:
            return _of_vectors(load_sentence_transformer(modules, fields, name), name)
        family = find_family(fields)
        if isinstance(family, EncoderFamily):
            return _of_vectors(load_encoder(family, fields, folder, name), name)
        return _load_decoder(folder, name, fields, family)
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}") from error


def _of_vectors(model: VectorModel, name: str) -> Model:
    return Model(name, model.config, model.module, model.weights, model.folder, model.vectors, model.settings)


def _load_decoder(folder: Path, name: str, fields: Mapping[str, object], family: Family) -> Model:
    config = family.from_hf(fields)
    generation = Fields(_read_json(folder / "generation_config.json") or {}, "generation_config.json")
    eos_token_ids = generation.token_ids("eos_token_id") or config.eos_token_ids
    quantization, settings = _read_quantization(folder, fields)
    weights = open_quantized(quantization, open_weights(folder))
    config = _check_tie(replace(config, eos_token_ids=eos_token_ids), family, weights)
    module = _build(family, config, weights, name)
    return Model(name, config, module, weights, folder, settings=settings)


def _read_quantization(
    folder: Path, config: Mapping[str, object]
) -> tuple[Mapping[str, object], tuple[Path, ...]]:
    """``config`` with what it says of quantization, and the file that says it where that is another."""
    for file, method in QUANTIZATION_FILES.items():
        if config.get("quantization_config") is None and (found := _read_json(folder / file)) is not None:
            return {**config, "quantization_config": {"quant_method": method, **found}}, (folder / file,)
    return config, ()


def _build(
    family: Family, config: DecoderConfig, weights: WeightSource, name: str, said_by: str = "config.json"
) -> Module:
    """The graph, of weights that are just those it needs."""
    orders = weights.orders if isinstance(weights, QuantizedWeights) else {}
    fitting = Fitting(weights, said_by)
    renamed = _renaming(family, weights)
    module = family.build(ModelBuilder(fitting.declare, fitting.holds, orders, renamed), config, name)
    drafting = tuple(
        renamed(f"model.layers.{config.num_layers + n}.") for n in range(config.num_draft_layers)
    )
    tied = [renamed(family.head)] if config.tie_word_embeddings else []
    fitting.finish(ignored=[*tied, *orders.values()], ignored_below=(*drafting, *family.left_out))
    return module


def _renaming(family: Family, weights: WeightSource) -> Callable[[str], str]:
    """What gives the names that ``family``'s tensors have in the checkpoint."""
    for prefixes in family.renamings:
        if any(name.startswith(tuple(prefixes.values())) for name in weights.names):
            return partial(_renamed, prefixes)
    return str


def _renamed(prefixes: Mapping[str, str], name: str) -> str:
    prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
    return prefixes.get(prefix, "") + name.removeprefix(prefix)


def _load_gguf(path: Path, frontend: str) -> Model:
    if frontend == "export":
        raise CompileError(f"{path} is a GGUF file, and only Hugging Face folders are traced")
    model = open_gguf(path)
    module = _build(model.family, model.config, model.weights, model.name, "the file's metadata")
    return Model(
        model.name, model.config, module, model.weights, path.parent, tokenizer=model.tokenizer_files
    )


def _is_file_of_hub(file: str) -> bool:
    """Whether what stands behind a hub id's colon can be a file of GGUF there; nothing at all can."""
    parts = file.split("/")
    return not file or (file.lower().endswith(GGUF_SUFFIX) and not {"", ".", ".."} & set(parts))


def _explain_absence(folder: Path) -> str:
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() == GGUF_SUFFIX)
    if files:
        return f"{folder} holds no config.json but GGUF files: give one of them, such as {files[0]}"
    if (folder / "manifest.json").exists():
        return f"{folder} is an artifact, and no model: --add-target builds it for another machine"
    return f"{folder} holds no config.json: a Hugging Face model folder is needed"


def _trace(folder: Path, name: str) -> Model:
    """The model as transformers builds it."""
    weights = open_weights(folder)
    exported = export_model(folder, weights, name)
    generation = Fields(_read_json(folder / "generation_config.json") or {}, "generation_config.json")
    eos_token_ids = generation.token_ids("eos_token_id") or exported.config.eos_token_ids
    config = replace(exported.config, eos_token_ids=eos_token_ids)
    return Model(name, config, exported.module, weights, folder, origins=exported.origins)


def _read_json(path: Path) -> Mapping[str, object] | None:
    """The object in a file, or ``None`` where there is no such file."""
    content = read_json(path)
    if content is None:
        return None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a JSON object")
    return content


def _check_tie(config: DecoderConfig, family: Family, weights: WeightSource) -> DecoderConfig:
    """Untie a head that the configuration ties but that the checkpoint holds with values of its own.

    ``transformers`` 5 does so too. A head that repeats the embedding is only a copy that was written out.
    """
    head, embedding = map(_renaming(family, weights), (family.head, family.embedding))
    if not config.tie_word_embeddings or not {head, embedding} <= weights.types.keys():
        return config
    if weights.types[head] == weights.types[embedding] and _alike(
        weights.read(head), weights.read(embedding)
    ):
        return config
    _LOG.warning("%s differs from %s, so they are not tied as config.json has it", head, embedding)
    return replace(config, tie_word_embeddings=False)


def _alike(first: Array, second: Array) -> bool:
    """Whether two tensors of one type are the same; rows are compared by blocks."""
    if isinstance(first, QuantizedArray) and isinstance(second, QuantizedArray):
        return all(map(_alike, first.components.values(), second.components.values()))
    rows, others = np.asarray(first), np.asarray(second)
    starts = range(0, len(rows), _COMPARED_ROWS)
    return all(np.array_equal(rows[i : i + _COMPARED_ROWS], others[i : i + _COMPARED_ROWS]) for i in starts)
