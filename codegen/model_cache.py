"""Artifacts of models that are named where an artifact is expected: compiled once, kept in the user's
cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

import click

from ..frontend import load_model
from ..ir.errors import CompileError
from ..targets import parse_targets
from ..targets.cache_folder import cache_folder
from .apart import compile_apart
from .model_source import ModelSource, find_model

__all__ = ["cache_folder", "cached_artifact"]

_LOG = logging.getLogger(__name__)

_QUANT = "none"
"""Where nobody says how to compile, nothing is rounded."""


def cached_artifact(model: str) -> Path:
    """The artifact of a model: the one in the cache, or one that is compiled now, which stderr says.

    It is made anew where the model's files, ingot, or the host's instruction set are others than those it was
    made for.

    Args:
        model: a Hugging Face folder, a GGUF file or a hub id.

    Raises:
        ModelError: the model cannot be taken in.
        CompileError: it cannot be built, or the cache cannot be written.
    """
    found = find_model(model)
    artifact = cache_folder() / f"{found.name}-{_key(found)}.ingot"
    if _is_artifact(artifact):
        _LOG.info("%s was compiled before: %s", model, artifact)
        return artifact
    with _lock(artifact):
        if not _is_artifact(artifact):  # another process may have made it meanwhile
            load_model(found.source)  # what cannot be taken in is refused before anything is announced
            click.echo(f"ingot: compiling {model}, once, into {artifact}", err=True)
            compile_apart(found.source, artifact, {"quant": _QUANT}, show_progress=True)
    return artifact


def _is_artifact(artifact: Path) -> bool:
    # An artifact is renamed whole into its place; what is in it is checked when it is opened.
    return (artifact / "manifest.json").is_file()


def _key(found: ModelSource) -> str:
    """What an artifact depends on, as 16 hexadecimal digits.

    Files count by path, size and time, as for ``make``: hashing a checkpoint would outlast loading it.
    """
    stats = [(str(path), path.stat()) for path in found.files]
    parts = {
        "path": str(found.path),
        "files": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        "quant": _QUANT,
        "targets": [target.name for target in parse_targets("cpu")],
        "ingot": version("ingot"),
        "compiler": _compiler_hash(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _compiler_hash() -> str:
    """A hash of the compiler's own code, so that one that is being worked on leaves nothing stale behind."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for room in ("ir", "targets", "frontend", "passes", "codegen"):
        for path in sorted((package / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def _lock(artifact: Path) -> Iterator[None]:
    """Hold ``artifact``'s place in the cache against other processes, as long as this one lives at most."""
    try:
        artifact.parent.mkdir(parents=True, exist_ok=True)
        lock = artifact.with_suffix(".lock").open("w")
    except OSError as error:
        raise CompileError(
            f"the cache {artifact.parent} cannot be written ({error.strerror}); INGOT_CACHE names another"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            click.echo(f"ingot: another process is compiling {artifact.name}; waiting for it", err=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
