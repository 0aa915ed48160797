"""Opening an artifact: its manifest, its files checked against it, and the library for this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from ...ir.errors import ArtifactError
from ...targets import Host, Manifest, detect_host, find_gpus, find_metal_gpu, read_manifest
from ...targets.devices import OF_ONNX
from ...targets.manifest import FileRecord, LibraryRecord
from .checked_files import CheckedFiles, stamp_of
from .mapped_arrays import MappedArrays
from .memory import Bytes, populate
from .model_info import ModelInfo
from .onnx_session import has_onnx_runtime

__all__ = ["Artifact", "open_artifact"]

_LOG = logging.getLogger(__name__)

_DEVICES = {"tvm": "cpu", "cuda": "cuda", "metal": "metal"}
"""What users call where a backend runs; ONNX Runtime runs in several places."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact that was opened; its files may still be read by the check that :meth:`check` waits for.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself.
        checks: one a file that is read, done when its bytes were found to be those of the manifest.
        checked: the large files that were found right by an earlier start, or will be by this one.
        arrays: what its parameter files hold, which are being read ahead.
    """

    folder: Path
    manifest: Manifest
    checks: tuple[Future[None], ...]
    checked: CheckedFiles
    arrays: MappedArrays

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
        """Wait until every file is known to be right; raises :class:`ArtifactError` naming one that was
        altered.
        """
        for check in self.checks:
            check.result()
        self.checked.save()

    def library(self, host: Host | None = None, *, device: str = "auto") -> LibraryRecord:
        """The best library for ``host`` (this machine) on ``device``; ``auto`` is a GPU where it can be.

        Which it is, and what keeps better ones from running here, goes to the log. Raises
        :class:`ArtifactError` if none fits.
        """
        host = host or detect_host()
        obstacles = {library.target: _obstacle(library, host, device) for library in self.manifest.libraries}
        best_first = sorted(self.manifest.libraries, key=lambda library: -library.rank)
        best = next((library for library in best_first if not obstacles[library.target]), None)
        if best is None:
            machine = f"{host.system} {host.machine}, {host.cpu}"
            reasons = "; ".join(f"{target} {why}" for target, why in obstacles.items())
            wanted = "cpu" if device == "auto" else device
            on = "" if device == "auto" else f" on {device}"
            advice = (
                f"build it for this machine, by 'ingot compile --add-target {wanted} {self.folder}' on it"
            )
            if any(library.backend == "onnx" for library in best_first):
                advice = "install what is missing"
            elif device in OF_ONNX:
                advice = f"{device} is one of ONNX Runtime's devices, which --backend onnx compiles for"
            elif any(_DEVICES[library.backend] == device != "cpu" for library in best_first):
                advice = "take a machine that has it, or another device"
            raise ArtifactError(
                f"{self.folder} is built for {', '.join(obstacles)}, and this machine ({machine}) can run "
                f"none of these{on} ({reasons}): {advice}"
            )
        _LOG.info("%s: taking the library for %s", self.folder, best.target)
        for library in best_first:
            if library.rank > best.rank and library.machine in ("", host.machine):
                _LOG.info("not that for %s, which %s", library.target, obstacles[library.target])
        return best


def _obstacle(library: LibraryRecord, host: Host, device: str) -> str:
    """Why ``host`` cannot run a library on a device; empty where it can."""
    if library.backend == "onnx":
        return (
            ""
            if has_onnx_runtime()
            else "needs the package onnxruntime (pip install '.[onnx]' in ingot's repository)"
        )
    own = _DEVICES[library.backend]
    if device not in ("auto", own):
        return "is for a CPU" if own == "cpu" else f"is for {own}"
    if library.backend == "metal":
        if (host.system, host.machine) == ("Darwin", "x86_64"):
            return "needs a Python for arm64, and this is one for x86_64"
        return "" if find_metal_gpu() else "needs a Mac with Apple silicon"
    if library.backend == "cuda":
        (architecture,) = library.features
        gpus = find_gpus()
        if not gpus:
            return "needs an NVIDIA GPU and its driver, which this machine does not show"
        fits = any(gpu.runs(architecture) for gpu in gpus)
        return "" if fits else f"needs {architecture}, and {gpus[0].name} is {gpus[0].architecture}"
    if (library.system, library.machine) != (host.system, host.machine):
        return f"is for {library.system} {library.machine}"
    missing = host.lacking(library.features)
    return f"needs {missing}" if missing else ""


def open_artifact(path: str | Path) -> Artifact:
    """Open the artifact folder at ``path``.

    Missing and truncated files, and libraries that were altered, are refused at once. Large files are read
    in the background, unless they are as an earlier start found them (see :mod:`.checked_files`); nothing may
    run before :meth:`Artifact.check`.

    Raises:
        ArtifactError: it is no artifact, of another schema, altered, or truncated.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    for file in manifest.files:
        _check_size(folder, file)
    checked, arrays = CheckedFiles(folder), MappedArrays(folder)
    mapped = {record.file for parameter in manifest.parameters for record in parameter.arrays}
    # With what lies beside them: kernels, and what launches these.
    libraries = {library.path for library in manifest.libraries}
    libraries |= {file.path for file in manifest.files if file.path.startswith("lib/")}
    libraries_first = sorted(manifest.files, key=lambda file: (file.path not in libraries, file.num_bytes))
    checks = {}
    with _background() as pool:
        for file in libraries_first:
            content = arrays.file(file.path) if file.path in mapped else None
            if not checked.knows(file):
                checks[file.path] = pool.submit(_check_bytes, folder, file, content, checked)
            elif content is not None:
                pool.submit(populate, content)
    for path, check in checks.items():
        if path in libraries:
            check.result()
    return Artifact(folder, manifest, tuple(checks.values()), checked, arrays)


@contextmanager
def _background() -> Iterator[ThreadPoolExecutor]:
    """Threads that end when they have done what they were given, which nobody waits for here."""
    pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="check")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False)


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


def _check_bytes(folder: Path, file: FileRecord, mapped: Bytes | None, checked: CheckedFiles) -> None:
    path = folder / file.path
    before, digest = stamp_of(path), blake3(max_threads=blake3.AUTO)
    if mapped is None:
        digest.update_mmap(path)
    else:
        populate(mapped)  # first, because this reads it in the largest pieces
        digest.update(mapped.data)
    if digest.hexdigest() != file.blake3:
        raise ArtifactError(f"{path} was altered after the artifact was made: compile the model again")
    checked.add(file, before)
