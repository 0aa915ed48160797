"""What a model was made from: files, sizes, hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ...ir.errors import WeightError

__all__ = ["SourceFile", "hash_files"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file: its name without folder, its size in bytes, and the SHA-256 of its bytes in hexadecimal."""

    name: str
    num_bytes: int
    sha256: str


def hash_files(paths: Iterable[Path]) -> tuple[SourceFile, ...]:
    """Hash ``paths`` as streams, two at a time, without holding the interpreter's lock.

    Raises:
        WeightError: a file cannot be read.
    """
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="hash") as pool:
        return tuple(pool.map(_hash_file, paths))


def _hash_file(path: Path) -> SourceFile:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
            return SourceFile(path.name, stream.tell(), digest.hexdigest())
    except OSError as error:
        raise WeightError(f"{path} cannot be read: {error.strerror}") from error
