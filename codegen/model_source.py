"""What a user named, made certain: a folder, or one commit of a repository that has been downloaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..frontend import load_model

__all__ = ["ModelSource", "find_model"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that is here.

    Attributes:
        name: what to call files that are made of it.
        source: what to compile: a folder's absolute path, or ``org/name@commit``.
        folder: where its files lie.
    """

    name: str
    source: str
    folder: Path


def find_model(model: str) -> ModelSource:
    """Find the model named ``model``, downloading what is missing with a bar on stderr.

    Raises:
        ModelError: it is neither there nor on the hub, or cannot be taken in.
    """
    path = Path(model).expanduser()
    if path.exists():
        found = path.resolve()
        return ModelSource(_file_name(found.name), str(found), found)
    from .progress_bar import DownloadBar  # folders, the common case, do without

    with DownloadBar() as bar:
        taken_in = load_model(model, progress=bar)
    repository = model.partition("@")[0]
    return ModelSource(_file_name(taken_in.name), f"{repository}@{taken_in.folder.name}", taken_in.folder)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "model"
