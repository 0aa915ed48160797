"""The weights in a Hugging Face folder: ``model.safetensors``, or the shards that an index names."""

from __future__ import annotations

import json
from pathlib import Path

from ...ir.errors import WeightError
from .safetensors_file import SafetensorsFile
from .source import SafetensorsWeights

__all__ = ["INDEX_NAME", "SINGLE_NAME", "open_weights", "read_index"]

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

_OTHER_FORMATS = {
    ".bin": "PyTorch pickles, which can run code when they are read",
    ".pt": "PyTorch pickles, which can run code when they are read",
    ".pth": "PyTorch pickles, which can run code when they are read",
    ".gguf": "GGUF files, each a model of its own: give one of them",
    ".onnx": "ONNX models",
    ".h5": "TensorFlow weights",
    ".msgpack": "Flax weights",
}


def open_weights(folder: Path) -> SafetensorsWeights:
    """The weights in ``folder``. Headers are read and checked, values are mapped when read.

    As in ``transformers``, a single file wins over an index.

    Raises:
        WeightError: there are none, a shard is missing, or a file is not what it should be.
    """
    if (folder / SINGLE_NAME).is_file():
        return SafetensorsWeights([SafetensorsFile(folder / SINGLE_NAME)])
    if (folder / INDEX_NAME).is_file():
        return _open_shards(folder)
    raise WeightError(_explain_absence(folder))


def read_index(path: Path) -> dict[str, str]:
    """The file of each tensor, by name; raises :class:`WeightError` where ``path`` is no index."""
    try:
        index = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise WeightError(f"{path} is not JSON: {error}") from error
    match index:
        case {"weight_map": dict(weight_map)} if weight_map and all(
            isinstance(x, str) for x in weight_map.values()
        ):
            return weight_map
    raise WeightError(f"{path} has no 'weight_map' from the names of tensors to those of files")


def _open_shards(folder: Path) -> SafetensorsWeights:
    weight_map = read_index(folder / INDEX_NAME)
    shards: dict[str, SafetensorsFile] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard:
            raise WeightError(
                f"{folder / INDEX_NAME} points to '{shard}', which is not a file of this folder"
            )
        if not (folder / shard).is_file():
            count = sum(file == shard for file in weight_map.values())
            raise WeightError(f"{folder} lacks the shard {shard}, in which {INDEX_NAME} has {count} tensors")
        shards[shard] = SafetensorsFile(folder / shard)
    for name, shard in weight_map.items():
        if name not in shards[shard].entries:
            raise WeightError(f"{folder / INDEX_NAME} has tensor '{name}' in {shard}, which does not hold it")
    return SafetensorsWeights(list(shards.values()))


def _explain_absence(folder: Path) -> str:
    wanted = f"{SINGLE_NAME} or {INDEX_NAME}"
    suffixes = {path.suffix.lower() for path in folder.iterdir() if path.is_file()}
    for suffix, what in _OTHER_FORMATS.items():
        if suffix in suffixes:
            return f"{folder} holds weights only as {suffix} ({what}); {wanted} is needed"
    if ".safetensors" in suffixes:
        return f"{folder} holds safetensors, but neither {SINGLE_NAME} nor the index {INDEX_NAME}"
    return f"{folder} holds no weights: {wanted} is needed"
