"""Writing an artifact: into a temporary folder beside its place, then renamed whole.

The same inputs give the same bytes: nothing here depends on time, place or order of hashing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from ..ir.errors import CompileError
from ..targets.manifest import ArrayRecord, FileRecord, ParameterRecord
from .preparing import PackedParameter

__all__ = ["copy_tokenizer", "hash_tree", "staged_folder", "write_parameters"]

ALIGNMENT = 128
"""Bytes that every array's place in its file is a multiple of: two cache lines, which are fetched in pairs.
"""

PARAMETER_FILE = "params/weights.bin"

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


@contextmanager
def staged_folder(output: Path, *, force: bool) -> Iterator[Path]:
    """A new folder that becomes ``output`` if all goes well, and vanishes if not.

    Raises :class:`CompileError` where ``output`` exists and may not, or must not, be replaced.
    """
    if output.exists() or output.is_symlink():
        if not force:
            raise CompileError(f"{output} exists; --force (force=True) replaces it")
        if not (output / "manifest.json").is_file():
            raise CompileError(f"{output} is not an artifact, so it is not replaced; choose another output")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise CompileError(f"{output.parent} cannot be written to: {error.strerror}") from error
    try:
        yield staged
        staged.chmod(0o755)
        _replace(staged, output)
    except OSError as error:
        raise CompileError(f"{output} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _replace(staged: Path, output: Path) -> None:
    """Put ``staged`` in the place of ``output``; a folder cannot be renamed over one that is not empty."""
    if not output.exists():
        staged.rename(output)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{output.name}.old.", dir=output.parent))
    output.rename(old / output.name)
    try:
        staged.rename(output)
    except OSError:
        (old / output.name).rename(output)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def write_parameters(folder: Path, parameters: Iterable[PackedParameter]) -> tuple[ParameterRecord, ...]:
    """Write all arrays to one file, one after the other as they come, and say where each lies."""
    path = folder / PARAMETER_FILE
    path.parent.mkdir()
    records = []
    with path.open("wb") as file:
        for packed in parameters:
            arrays = tuple(_write_array(file.fileno(), array) for array in packed.arrays)
            parameter = packed.parameter
            records.append(ParameterRecord(parameter.name, str(parameter.type), packed.layout.value, arrays))
    return tuple(records)


def _write_array(descriptor: int, array: npt.NDArray[np.generic]) -> ArrayRecord:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    offset = -(-end // ALIGNMENT) * ALIGNMENT
    os.ftruncate(descriptor, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    remaining = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]
    return ArrayRecord(PARAMETER_FILE, offset, array.shape, array.dtype.name)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer, its chat template and the generation config; raises :class:`CompileError` without
    one.
    """
    if not (source / "tokenizer.json").is_file():
        raise CompileError(
            f"{source} holds no tokenizer.json, which the runtime needs to read and write text"
        )
    target = folder / "tokenizer"
    target.mkdir()
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def hash_tree(folder: Path) -> tuple[FileRecord, ...]:
    """Path, size and BLAKE3 of every file below ``folder``, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        FileRecord(
            path.relative_to(folder).as_posix(),
            path.stat().st_size,
            blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest(),
        )
        for path in files
    )
