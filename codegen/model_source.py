"""What a user named, made certain: a folder, a file, or one commit of a repository that is downloaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..frontend import gguf_name, gguf_parts, load_model

__all__ = ["ModelSource", "find_model"]

_SOURCE_SUFFIXES = (".json", ".jinja", ".safetensors", ".bin", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that is here.

    Attributes:
        name: what to call files that are made of it.
        source: what to compile: an absolute path, or ``org/name@commit``.
        path: the folder in which its files lie, or the GGUF file that it is.
    """

    name: str
    source: str
    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that an artifact of it depends on, sorted."""
        path = self.path
        if not path.is_dir():
            named = [path.with_name(name) for name in gguf_parts(path.name)]
        else:
            named = [
                found
                for found in (*path.glob("*"), *path.glob("[0-9]*_*/*"))
                if found.suffix in _SOURCE_SUFFIXES
            ]
        return tuple(sorted(found for found in named if found.is_file()))


def find_model(model: str) -> ModelSource:
    """Find the model named ``model``, downloading what is missing with a bar on stderr.

    Raises:
        ModelError: it is neither there nor on the hub, or cannot be taken in.
    """
    path = Path(model).expanduser()
    if path.exists():
        found = path.resolve()
        name = gguf_name(found.name) if found.is_file() else found.name
        return ModelSource(_file_name(name), str(found), found)
    from .progress_bar import DownloadBar  # folders, the common case, do without

    with DownloadBar() as bar:
        taken_in = load_model(model, progress=bar)
    if taken_in.tokenizer is not None:  # a file with all in it
        (file, *_) = taken_in.weights.files
        return ModelSource(_file_name(taken_in.name), str(file), file)
    repository = model.partition("@")[0]
    return ModelSource(_file_name(taken_in.name), f"{repository}@{taken_in.folder.name}", taken_in.folder)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "model"
