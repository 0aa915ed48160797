"""The weights in a Hugging Face folder: safetensors or torch's, one file or the shards of an index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ...ir.errors import WeightError
from .safetensors_file import SafetensorsFile
from .source import FileWeights, TensorFile
from .torch_file import TorchFile

__all__ = ["INDEX_NAME", "SINGLE_NAME", "TORCH_INDEX_NAME", "TORCH_NAME", "open_weights", "read_index"]

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
TORCH_NAME = "pytorch_model.bin"
TORCH_INDEX_NAME = "pytorch_model.bin.index.json"

_FORMATS: tuple[tuple[str, str, Callable[[Path], TensorFile]], ...] = (
    (SINGLE_NAME, INDEX_NAME, SafetensorsFile),
    (TORCH_NAME, TORCH_INDEX_NAME, TorchFile),
)
"""A single file, an index of several, and what opens one."""

_LONGEST_NAME = 200
"""Characters; file systems take no more than 255 bytes."""

_OTHER_NAMES = ("pytorch_model.pt", "pytorch_model.pth", "model.pt", "model.pth")
"""What the only file of weights is called by those who saved it with torch themselves."""

_OTHER_FORMATS = {
    ".bin": f"of other names than {TORCH_NAME}",
    ".pt": f"of other names than {', '.join(_OTHER_NAMES)}",
    ".pth": f"of other names than {', '.join(_OTHER_NAMES)}",
    ".gguf": "GGUF files, each a model of its own: give one of them",
    ".onnx": "ONNX models",
    ".h5": "TensorFlow weights",
    ".msgpack": "Flax weights",
}


def open_weights(folder: Path) -> FileWeights:
    """The weights in ``folder``. Headers are read and checked, values are mapped when read.

    As in ``transformers``, safetensors win over what torch saved, and a single file over an index.

    Raises:
        WeightError: there are none, a shard is missing, or a file is not what it should be.
    """
    for single, index, open_file in _FORMATS:
        if (folder / single).is_file():
            return FileWeights([open_file(folder / single)])
        if (folder / index).is_file():
            return _open_shards(folder, index, open_file)
    for name in _OTHER_NAMES:
        if (folder / name).is_file():
            return FileWeights([TorchFile(folder / name)])
    raise WeightError(_explain_absence(folder))


def read_index(path: Path) -> dict[str, str]:
    """The file of each tensor, by name; raises :class:`WeightError` where ``path`` is no index."""
    try:
        index = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise WeightError(f"{path} is not JSON: {error}") from error
    match index:
        case {"weight_map": dict(weight_map)} if weight_map and all(
            isinstance(x, str) for x in weight_map.values()
        ):
            return weight_map
    raise WeightError(f"{path} has no 'weight_map' from the names of tensors to those of files")


def _open_shards(folder: Path, index: str, open_file: Callable[[Path], TensorFile]) -> FileWeights:
    weight_map = read_index(folder / index)
    shards: dict[str, TensorFile] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or len(shard) > _LONGEST_NAME or "\0" in shard:
            shown = shard[:_LONGEST_NAME]
            raise WeightError(f"{folder / index} points to '{shown}', which is not a file of this folder")
        if not (folder / shard).is_file():
            count = sum(file == shard for file in weight_map.values())
            raise WeightError(f"{folder} lacks the shard {shard}, in which {index} has {count} tensors")
        shards[shard] = open_file(folder / shard)
    for name, shard in weight_map.items():
        if name not in shards[shard].entries:
            raise WeightError(f"{folder / index} has tensor '{name}' in {shard}, which does not hold it")
    return FileWeights(list(shards.values()))


def _explain_absence(folder: Path) -> str:
    wanted = f"{SINGLE_NAME}, {INDEX_NAME} or {TORCH_NAME}"
    suffixes = {path.suffix.lower() for path in folder.iterdir() if path.is_file()}
    for suffix, what in _OTHER_FORMATS.items():
        if suffix in suffixes:
            return f"{folder} holds weights only as {suffix} ({what}); {wanted} is needed"
    if ".safetensors" in suffixes:
        return f"{folder} holds safetensors, but neither {SINGLE_NAME} nor the index {INDEX_NAME}"
    return f"{folder} holds no weights: {wanted} is needed"
