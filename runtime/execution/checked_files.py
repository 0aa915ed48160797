"""Which large files of an artifact were found right before, so that a start need not read them again.

A file is known by what the file system says of it: device, inode, size, and the times of its last change and
of the last change of any of these. Whatever goes through the file system leaves others: writing, renaming,
copying, setting the times back. What does not go through it is not noticed: a disk that forgets, and who
writes to the disk past the system; ``INGOT_CHECK=always`` reads every file at every start.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec
from blake3 import blake3

from ...targets.cache_folder import cache_folder
from ...targets.manifest import FileRecord

__all__ = ["CheckedFiles", "Stamp", "stamp_of"]

Stamp = tuple[int, ...]
"""Device, inode, size in bytes, time of the last change of content, and of anything, in nanoseconds."""

SETTLED_NS = 2_000_000_000
"""How long ago a file's last change must be: two changes within one tick of the clock look alike."""

LEAST_BYTES = 1 << 24
"""Smaller files are read in a few milliseconds."""


def stamp_of(path: Path) -> Stamp:
    """What the file system says of a file; raises :class:`OSError`."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


class CheckedFiles:
    """The stamps of one artifact's large files, in the user's cache."""

    def __init__(self, folder: Path) -> None:
        """Read what is known of the artifact in ``folder``; what cannot be read is not known."""
        self._folder = folder
        name = blake3(os.fsencode(folder.resolve())).hexdigest(16)
        self._place = cache_folder() / "checked" / f"{name}.json"
        self._known = {} if os.environ.get("INGOT_CHECK") == "always" else _read(self._place)
        self._is_new = False

    def knows(self, file: FileRecord) -> bool:
        """Whether the file is as it was when its content was found to be that of the record."""
        if file.path not in self._known:
            return False
        with suppress(OSError):
            return self._known[file.path] == (file.blake3, stamp_of(self._folder / file.path))
        return False

    def add(self, file: FileRecord, before: Stamp) -> None:
        """Remember that the content is right, where ``before``, a stamp from before reading, still holds."""
        is_settled = before[-1] < time.time_ns() - SETTLED_NS
        if file.num_bytes >= LEAST_BYTES and is_settled and stamp_of(self._folder / file.path) == before:
            self._known[file.path] = file.blake3, before
            self._is_new = True

    def save(self) -> None:
        """Keep what was added. A cache that cannot be written is none; the next start reads all again."""
        if not self._is_new:
            return
        with suppress(OSError):
            self._place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._place.parent, delete=False) as file:
                file.write(msgspec.json.encode(self._known))
            Path(file.name).replace(self._place)
            self._is_new = False


def _read(place: Path) -> dict[str, tuple[str, Stamp]]:
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(place.read_bytes(), type=dict[str, tuple[str, Stamp]])
    return {}
