"""Adding targets to an artifact: its IR becomes further machine code, and its weights stay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..ir import parse_module
from ..ir.errors import ArtifactError, CompileError
from ..targets import read_manifest, write_manifest
from .artifact_writer import hash_file
from .compiler import CompiledArtifact, most_memory_held
from .options import parse_built_for
from .progress import CompileProgress, SilentProgress
from .tvm_compiler import prepare_compiler

__all__ = ["add_targets"]

_STAGES = ("paged", "ragged")


def add_targets(
    path: str | Path, targets: Sequence[str], *, progress: CompileProgress | None = None
) -> CompiledArtifact:
    """Build an artifact's step for further targets; what is there for one of them already stays.

    Weights are shared by all targets, so only machine code is written; the manifest last, so that an
    interrupted run leaves the artifact as it was.

    Raises:
        ArtifactError: ``path`` is no artifact that can be used.
        CompileError: a target does not exist or cannot be built for, or the artifact is of the ONNX
            backend, or this process has TVM's runtime for an engine.
    """
    started, folder, watcher = time.perf_counter(), Path(path), progress or SilentProgress()
    built_for = parse_built_for(targets)
    manifest = read_manifest(folder)
    if any(library.backend == "onnx" for library in manifest.libraries):
        raise CompileError(f"{folder} is of the ONNX backend, which runs wherever ONNX Runtime does")
    if not prepare_compiler():
        raise CompileError(
            "this process runs models with TVM's runtime: add targets in another, such as 'ingot compile'"
        )
    module = parse_module(_last_stage(folder))
    from .building import check_tools, tools_of, write_library

    check_tools(built_for)
    watcher.stage("Generating machine code", len(built_for))
    records = {library.target: library for library in manifest.libraries}
    for target in built_for:
        watcher.advance()
        if target.name in records:
            continue
        step_tokens = manifest.memory.max_step_tokens
        records[target.name] = write_library(folder, module, target, max_step_tokens=step_tokens)
    known = {file.path: file for file in manifest.files}
    written = sorted(path.relative_to(folder).as_posix() for path in (folder / "lib").iterdir())
    known |= {name: hash_file(folder, name) for name in written}
    write_manifest(
        folder,
        msgspec.structs.replace(
            manifest,
            toolchain={**manifest.toolchain, **tools_of(built_for)},
            libraries=tuple(records.values()),
            files=tuple(known[name] for name in sorted(known)),
        ),
    )
    manifest = read_manifest(folder)
    return CompiledArtifact(
        path=folder,
        num_bytes=sum(file.num_bytes for file in manifest.files) + (folder / "manifest.json").stat().st_size,
        seconds=time.perf_counter() - started,
        peak_memory_bytes=most_memory_held(),
        manifest=manifest,
    )


def _last_stage(folder: Path) -> str:
    """The text of the module that machine code was made of."""
    for stage in _STAGES:
        path = folder / "ir" / f"{stage}.ir"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise ArtifactError(f"{folder / 'ir'} does not hold the module that its machine code was made of")
