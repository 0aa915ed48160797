"""Folders as the package ``sentence-transformers`` writes them: a transformer, and what pools its states.

``modules.json`` lists the modules in order with the folder of each; each folder holds the module's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from ..ir.errors import ConfigError
from .configs import DenseLayer, Fields, Normalization, VectorConfig, VectorLayer
from .configs.vectors import Activation
from .json_file import read_json

__all__ = ["SentenceTransformer", "read_modules"]

_POOLINGS = {
    "cls": "first",
    "mean": "mean",
    "max": "max",
    "lasttoken": "last",
}
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
_ACTIVATIONS: Mapping[str, Activation] = {"Identity": "identity", "Tanh": "tanh"}


@dataclass(frozen=True, slots=True)
class SentenceTransformer:
    """What the folder says.

    Attributes:
        transformer: the folder of the transformer and its tokenizer.
        vectors: what becomes of the transformer's states.
        dense_folders: where the tensors of each :class:`DenseLayer` are, by its name.
        files: the files with all these settings.
    """

    transformer: Path
    vectors: VectorConfig
    dense_folders: Mapping[str, Path]
    files: tuple[Path, ...]


def read_modules(folder: Path) -> SentenceTransformer | None:
    """Read ``folder``; ``None`` where it holds no ``modules.json``.

    Raises:
        ConfigError: a module is unknown or malformed, or asks for what is not supported.
    """
    path = folder / "modules.json"
    modules = read_json(path)
    if modules is None:
        return None
    if not isinstance(modules, list) or not all(isinstance(entry, dict) for entry in modules):
        raise ConfigError(f"{path} must hold a list of modules")
    return _Reader(folder, [Fields(entry, str(path)) for entry in modules]).read()


def _path(module: Fields) -> str:
    """The folder of a module's files, within the model's."""
    path = module.text("path", "")
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\0" in path:
        raise module.refuse(f"path '{path}' is not within the model's folder")
    return path


class _Reader:
    def __init__(self, folder: Path, modules: list[Fields]) -> None:
        self._folder = folder
        self._modules = modules
        self._files = [folder / "modules.json"]
        self._pooling: str | None = None
        self._layers: list[VectorLayer] = []
        self._dense_folders: dict[str, Path] = {}

    def read(self) -> SentenceTransformer:
        kinds = [_kind(module) for module in self._modules]
        if kinds[:1] != ["Transformer"]:
            raise ConfigError(f"{self._files[0]}: the first module must be a Transformer")
        transformer = self._folder / _path(self._modules[0])
        for kind, module in zip(kinds[1:], self._modules[1:], strict=True):
            reader = _MODULES.get(kind)
            if reader is None:
                known = ", ".join(("Transformer", *_MODULES))
                raise ConfigError(f"{self._files[0]}: no module '{kind}' is supported; supported are {known}")
            reader(self, _path(module))
        if self._pooling is None:
            raise ConfigError(f"{self._files[0]}: there is no Pooling")
        own = self._settings(transformer / "sentence_bert_config.json")
        if own.flag("do_lower_case", False):
            raise own.refuse("'do_lower_case' is not supported; the tokenizer should do it")
        if (task := own.text("transformer_task", "feature-extraction")) != "feature-extraction":
            raise own.refuse(f"transformer_task '{task}' is not supported; supported is feature-extraction")
        prompts, default_prompt = self._prompts()
        vectors = VectorConfig(
            task="embed",
            pooling=self._pooling,
            layers=tuple(self._layers),
            max_seq_len=own.optional_integer("max_seq_length", None),
            prompts=prompts,
            default_prompt=default_prompt,
        )
        return SentenceTransformer(transformer, vectors, self._dense_folders, tuple(self._files))

    def _settings(self, path: Path) -> Fields:
        """The object in a file; empty where there is none."""
        values = read_json(path)
        if values is None:
            return Fields({}, str(path))
        if not isinstance(values, dict):
            raise ConfigError(f"{path} must hold a JSON object")
        self._files.append(path)
        return Fields(values, str(path))

    def _prompts(self) -> tuple[Mapping[str, str], str | None]:
        fields = self._settings(self._folder / "config_sentence_transformers.json")
        found = fields.object("prompts")
        prompts = {name: found.text(name, "") for name in found.values} if found is not None else {}
        default = fields.text("default_prompt_name", "") or None
        if default is not None and default not in prompts:
            raise fields.refuse(f"default_prompt_name '{default}' is none of the prompts")
        return MappingProxyType(prompts), default

    def _read_pooling(self, path: str) -> None:
        fields = self._settings(self._folder / path / "config.json")
        if self._pooling is not None or self._layers:
            raise fields.refuse("only one Pooling, before all layers, is supported")
        if not fields.flag("include_prompt", True):
            raise fields.refuse("'include_prompt' false is not supported")
        if fields.has("pooling_mode"):
            wanted = fields.values["pooling_mode"]
            modes = [str(mode) for mode in wanted] if isinstance(wanted, list) else [str(wanted)]
        else:
            modes = [mode for flag, mode in _POOLING_FLAGS.items() if fields.flag(flag, False)]
        if len(modes) != 1 or modes[0] not in _POOLINGS:
            supported = ", ".join(_POOLINGS)
            raise fields.refuse(f"pooling by {' and '.join(modes) or 'nothing'} is not one of {supported}")
        self._pooling = _POOLINGS[modes[0]]

    def _read_dense(self, path: str) -> None:
        fields = self._settings(self._folder / path / "config.json")
        name = fields.text("activation_function", "torch.nn.modules.activation.Tanh")
        activation = _ACTIVATIONS.get(name.rpartition(".")[2])
        if activation is None:
            supported = ", ".join(_ACTIVATIONS)
            raise fields.refuse(f"activation_function '{name}' is not supported; supported are {supported}")
        for key in ("module_input_name", "module_output_name"):
            if fields.text(key, "") not in ("", "sentence_embedding"):
                raise fields.refuse(f"'{key}' is not supported")
        layer = DenseLayer(
            name=f"{path}.linear",
            in_features=fields.integer("in_features"),
            out_features=fields.integer("out_features"),
            bias=fields.flag("bias", True),
            activation=activation,
        )
        self._layers.append(layer)
        self._dense_folders[layer.name] = self._folder / path

    def _read_normalize(self, path: str) -> None:
        self._layers.append(Normalization())

    def _read_dropout(self, path: str) -> None:
        """Nothing is dropped but in training."""


_MODULES: Mapping[str, Callable[[_Reader, str], None]] = {
    "Pooling": _Reader._read_pooling,
    "Dense": _Reader._read_dense,
    "Normalize": _Reader._read_normalize,
    "Dropout": _Reader._read_dropout,
}


def _kind(module: Fields) -> str:
    """The class's name; the package has moved its modules between versions."""
    return module.text("type", "an unnamed module").rpartition(".")[2]
