"""Opening an artifact: its manifest, its files checked against it, and the library for this machine."""

from __future__ import annotations

import logging
import mmap
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from ...ir.errors import ArtifactError
from ...targets import Host, Manifest, detect_host, read_manifest
from ...targets.manifest import ArrayRecord, FileRecord, LibraryRecord
from .model_info import ModelInfo

__all__ = ["Artifact", "MappedArrays", "open_artifact"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact that was opened; its files may still be read by the check that :meth:`check` waits for.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself.
        checks: one a file, done when the file's bytes were found to be those of the manifest.
    """

    folder: Path
    manifest: Manifest
    checks: tuple[Future[None], ...]

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of ``tokenizer.json`` and the chat template."""
        return self.folder / "tokenizer"

    @property
    def info(self) -> ModelInfo:
        """What the engine needs to know of the model."""
        model = self.manifest.model
        created = int((self.folder / "manifest.json").stat().st_mtime)
        return ModelInfo(
            model.name,
            model.max_seq_len,
            frozenset(model.eos_token_ids),
            created,
            task=model.task,
            vectors=model.vectors,
        )

    def check(self) -> None:
        """Wait until every file was read; raises :class:`ArtifactError` naming one that was altered."""
        for check in self.checks:
            check.result()

    def library(self, host: Host | None = None) -> LibraryRecord:
        """The best library for ``host`` (this machine); raises :class:`ArtifactError` if none fits.

        Which it is, and what keeps better ones from running here, goes to the log.
        """
        host = host or detect_host()
        obstacles = {library.target: _obstacle(library, host) for library in self.manifest.libraries}
        best_first = sorted(self.manifest.libraries, key=lambda library: -library.rank)
        best = next((library for library in best_first if not obstacles[library.target]), None)
        if best is None:
            machine = f"{host.system} {host.machine}, {host.cpu}"
            reasons = "; ".join(f"{target} {why}" for target, why in obstacles.items())
            raise ArtifactError(
                f"{self.folder} is built for {', '.join(obstacles)}, and this machine ({machine}) can run "
                f"none of these ({reasons}): compile the model here, or with a --target that this machine has"
            )
        _LOG.info("%s: taking the library for %s", self.folder, best.target)
        for library in best_first:
            if library.rank > best.rank and library.machine == host.machine:
                _LOG.info("not that for %s, which %s", library.target, obstacles[library.target])
        return best


def _obstacle(library: LibraryRecord, host: Host) -> str:
    """Why ``host`` cannot run a library; empty where it can."""
    if (library.system, library.machine) != (host.system, host.machine):
        return f"is for {library.system} {library.machine}"
    missing = host.lacking(library.features)
    return f"needs {missing}" if missing else ""


def open_artifact(path: str | Path) -> Artifact:
    """Open the artifact folder at ``path``.

    Missing and truncated files, and libraries that were altered, are refused at once. Large files are read
    in the background; nothing may run before :meth:`Artifact.check`.

    Raises:
        ArtifactError: it is no artifact, of another schema, altered, or truncated.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    for file in manifest.files:
        _check_size(folder, file)
    pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="check")
    libraries_first = sorted(
        manifest.files, key=lambda file: (not file.path.startswith("lib/"), file.num_bytes)
    )
    checks = tuple(pool.submit(_check_bytes, folder, file) for file in libraries_first)
    pool.shutdown(wait=False)
    for file, check in zip(libraries_first, checks, strict=True):
        if file.path.startswith("lib/"):
            check.result()
    return Artifact(folder, manifest, checks)


def _check_size(folder: Path, file: FileRecord) -> None:
    try:
        num_bytes = (folder / file.path).stat().st_size
    except OSError as error:
        raise ArtifactError(f"{folder / file.path} cannot be read: {error.strerror}") from None
    if num_bytes != file.num_bytes:
        raise ArtifactError(
            f"{folder / file.path} has {num_bytes} bytes where the manifest has {file.num_bytes}: "
            "it is truncated or not of this artifact"
        )


def _check_bytes(folder: Path, file: FileRecord) -> None:
    if blake3(max_threads=blake3.AUTO).update_mmap(folder / file.path).hexdigest() != file.blake3:
        raise ArtifactError(
            f"{folder / file.path} was altered after the artifact was made: compile the model again"
        )


class MappedArrays:
    """The arrays of an artifact's parameter files, mapped and never copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: dict[str, mmap.mmap] = {}

    def __getitem__(self, record: ArrayRecord) -> npt.NDArray[np.generic]:
        """The array a record describes; raises :class:`ArtifactError` where it does not lie in its file."""
        mapped = self._maps.get(record.file)
        if mapped is None:
            with (self._folder / record.file).open("rb") as file:
                # Private and writable, because other libraries do not take read-only memory; nobody writes.
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self._maps[record.file] = mapped
        dtype = np.dtype(record.dtype)
        count = int(np.prod(record.shape, dtype=np.int64))
        if record.offset < 0 or record.offset + count * dtype.itemsize > len(mapped):
            raise ArtifactError(f"{self._folder / record.file} ends before an array of its manifest does")
        return np.frombuffer(mapped, dtype, count, record.offset).reshape(record.shape)
