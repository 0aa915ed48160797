"""Artifacts of models that are named where an artifact is expected: compiled once, kept in the user's cache.

The compiler runs in a process of its own. What it took of memory is gone when the model runs, and an engine
that has loaded TVM's small runtime library in this process is not in its way.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

import click

from ..frontend import load_model
from ..ir import errors
from ..ir.errors import CompileError, IngotError
from ..targets import parse_target
from .model_source import find_model

__all__ = ["cache_folder", "cached_artifact", "compile_for_cache"]

_LOG = logging.getLogger(__name__)

_QUANT = "none"
"""Where nobody says how to compile, nothing is rounded."""

_SOURCE_SUFFIXES = (".json", ".jinja", ".safetensors")


def cache_folder() -> Path:
    """Where artifacts are kept: ``INGOT_CACHE``, or ``ingot`` in the folder this system has for caches."""
    chosen = os.environ.get("INGOT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ingot"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "ingot"


def cached_artifact(model: str) -> Path:
    """The artifact of a model: the one in the cache, or one that is compiled now, which stderr says.

    It is made anew where the model's files, ingot, or the host's instruction set are others than those it was
    made for.

    Args:
        model: a Hugging Face folder or a hub id.

    Raises:
        ModelError: the model cannot be taken in.
        CompileError: it cannot be built, or the cache cannot be written.
    """
    found = find_model(model)
    artifact = cache_folder() / f"{found.name}-{_key(found.folder)}.ingot"
    if _is_artifact(artifact):
        _LOG.info("%s was compiled before: %s", model, artifact)
        return artifact
    with _lock(artifact):
        if not _is_artifact(artifact):  # another process may have made it meanwhile
            load_model(found.source)  # what cannot be taken in is refused before anything is announced
            click.echo(f"ingot: compiling {model}, once, into {artifact}", err=True)
            _compile_apart(found.source, artifact)
    return artifact


def compile_for_cache(source: str, artifact: Path) -> None:
    """Compile with the cache's options, showing progress on stderr."""
    from .compiler import compile_model
    from .progress_bar import ProgressBar

    with ProgressBar() as progress:
        compile_model(source, artifact, quant=_QUANT, progress=progress)


def _is_artifact(artifact: Path) -> bool:
    # An artifact is renamed whole into its place; what is in it is checked when it is opened.
    return (artifact / "manifest.json").is_file()


def _key(folder: Path) -> str:
    """What an artifact depends on, as 16 hexadecimal digits.

    Files count by path, size and time, as for ``make``: hashing a checkpoint would outlast loading it.
    """
    paths = (
        sorted(path for path in folder.iterdir() if path.suffix in _SOURCE_SUFFIXES)
        if folder.is_dir()
        else []
    )
    stats = [(path.name, path.stat()) for path in paths]
    parts = {
        "folder": str(folder),
        "files": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        "quant": _QUANT,
        "target": parse_target("cpu").name,
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


def _compile_apart(source: str, artifact: Path) -> None:
    """Run :func:`compile_for_cache` in a process of its own; what it raises is raised here."""
    # -P: the current folder must not become a place to import from.
    command = [sys.executable, "-P", "-m", __name__, source, str(artifact)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return
    try:
        failure = json.loads(done.stdout)
        kind, message = getattr(errors, failure["error"]), failure["message"]
    except (ValueError, KeyError, AttributeError):
        how = (
            f"ended with code {done.returncode}"
            if done.returncode > 0
            else f"was killed by signal {-done.returncode}"
        )
        raise CompileError(f"compiling {source} failed: the compiler's process {how}") from None
    raise kind(message)


def _main(source: str, artifact: str) -> int:
    try:
        compile_for_cache(source, Path(artifact))
    except IngotError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        return 1
    except KeyboardInterrupt:  # the process that waits for this one got it too, and says what there is to say
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
