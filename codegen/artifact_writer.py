"""Writing an artifact: into a temporary folder beside its place, then renamed whole.

The same inputs give the same bytes: nothing here depends on time, place or order of hashing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from ..frontend import Model
from ..ir.errors import CompileError
from ..targets.manifest import ArrayRecord, FileRecord, ParameterRecord

if TYPE_CHECKING:  # TVM is behind it, and what is refused here is refused before that is loaded
    from .preparing import PackedParameter

__all__ = ["hash_file", "hash_tree", "staged_folder", "write_parameters", "write_tokenizer"]

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
    except BaseException:  # an interrupt too must not cost the old one
        (old / output.name).rename(output)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def write_parameters(
    folder: Path, parameters: Iterable[PackedParameter]
) -> tuple[tuple[ParameterRecord, ...], FileRecord]:
    """Write all arrays to one file, one after the other; where each lies, and the file's record."""
    path = folder / PARAMETER_FILE
    path.parent.mkdir()
    records = []
    with path.open("wb") as stream:
        file = _HashedFile(stream)
        for packed in parameters:
            arrays = tuple(
                ArrayRecord(PARAMETER_FILE, file.write(array), array.shape, array.dtype.name)
                for array in packed.arrays
            )
            parameter = packed.parameter
            records.append(ParameterRecord(parameter.name, str(parameter.type), packed.layout.value, arrays))
        file.flush()
    return tuple(records), FileRecord(PARAMETER_FILE, file.num_bytes, file.hash.hexdigest())


_PIECE = 1 << 24
"""How much is written at once. What a system is given in such pieces it keeps in huge pages, if it has them,
and maps it by them where the model runs."""


class _HashedFile:
    """A file of aligned arrays that is hashed as it is written, so that nothing is read back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._piece = bytearray()
        self.hash = blake3(max_threads=blake3.AUTO)
        self.num_bytes = 0

    def write(self, array: npt.NDArray[np.generic]) -> int:
        """Append an array at the next aligned place, and return that place."""
        self._append(bytes(-self.num_bytes % ALIGNMENT))
        offset = self.num_bytes
        self._append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return offset

    def _append(self, data: bytes | memoryview) -> None:
        self.num_bytes += len(data)
        rest = memoryview(data)
        while rest:
            room = _PIECE - len(self._piece)
            self._piece += rest[:room]
            rest = rest[room:]
            if len(self._piece) == _PIECE:
                self.flush()

    def flush(self) -> None:
        """Write what is left."""
        self._stream.write(self._piece)
        self.hash.update(self._piece)
        self._piece.clear()


def write_tokenizer(model: Model, folder: Path) -> None:
    """Put the tokenizer, its chat template and the generation config of a model into an artifact's folder.

    Raises:
        CompileError: the model has no tokenizer.
        ConfigError: it has one that is not supported.
    """
    target = folder / "tokenizer"
    if model.tokenizer is not None:
        files = model.tokenizer()
        target.mkdir()
        for name, text in files.items():
            (target / name).write_text(text, encoding="utf-8")
        return
    source = model.folder
    if not (source / "tokenizer.json").is_file():
        raise CompileError(
            f"{source} holds no tokenizer.json, which the runtime needs to read and write text"
        )
    target.mkdir()
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def hash_tree(folder: Path, known: FileRecord) -> tuple[FileRecord, ...]:
    """Path, size and BLAKE3 of every file below ``folder``, sorted; one file's record is ``known``."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return tuple(known if name == known.path else hash_file(folder, name) for name in names)


def hash_file(folder: Path, name: str) -> FileRecord:
    """Path, size and BLAKE3 of one file."""
    data = (folder / name).read_bytes()
    return FileRecord(name, len(data), blake3(data).hexdigest())
