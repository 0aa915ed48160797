"""A model in one GGUF file, or in the numbered ones it was split into."""

from __future__ import annotations

import re
from pathlib import Path

from ...ir.errors import WeightError
from .container import GgufFile

__all__ = ["gguf_name", "gguf_parts", "open_parts"]

_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_NUMBER_KEY, _COUNT_KEY, _TENSORS_KEY = "split.no", "split.count", "split.tensors.count"


def gguf_parts(name: str) -> tuple[str, ...]:
    """The names of all files of a model, given that of any; a file that is not split is alone."""
    found = _SPLIT.fullmatch(name)
    if found is None:
        return (name,)
    count = int(found["count"])
    suffix = name[-len(".gguf") :]
    return tuple(f"{found['stem']}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1))


def gguf_name(name: str) -> str:
    """What to call the model in a file of this name."""
    found = _SPLIT.fullmatch(name)
    return found["stem"] if found is not None else Path(name).stem


def open_parts(path: Path) -> tuple[GgufFile, ...]:
    """All files of the model of which ``path`` is one, in order; the first has the model's metadata.

    Raises:
        WeightError: one is missing or malformed, or they do not fit together.
    """
    names = gguf_parts(path.name)
    _check_names(path, names)
    files = tuple(GgufFile(path.with_name(name)) for name in names)
    for number, file in enumerate(files):
        count = max(_said(file, _COUNT_KEY, 1), 1)  # 0 is written for a file that is not split
        if (count, _said(file, _NUMBER_KEY, 0)) != (len(files), number):
            raise WeightError(
                f"{file.path} says that it is file {_said(file, _NUMBER_KEY, 0) + 1} of {count}, its name "
                f"that it is {number + 1} of {len(files)}: keep the names that the files came with"
            )
    owners: dict[str, GgufFile] = {}
    for file in files:
        for name in file.tensors:
            if (other := owners.setdefault(name, file)) is not file:
                raise WeightError(f"tensor '{name}' is both in {other.path} and in {file.path.name}")
    if (said := _said(files[0], _TENSORS_KEY, len(owners))) != len(owners):
        raise WeightError(f"{path} and its other parts have {len(owners)} tensors, not {said}")
    return files


def _said(file: GgufFile, key: str, default: int) -> int:
    value = file.metadata.get(key, default)
    if type(value) is not int:
        raise WeightError(f"{file.path}: metadata '{key}' must be a whole number, not {value!r}")
    return value


def _check_names(path: Path, names: tuple[str, ...]) -> None:
    if path.name not in names:
        raise WeightError(f"{path} cannot be the name of one of {len(names)} parts")
    for name in names:
        if not path.with_name(name).is_file():
            raise WeightError(f"{path.parent} lacks {name}, one of the {len(names)} files of the model")
