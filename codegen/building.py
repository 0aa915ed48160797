"""What a backend makes of a module: libraries and weights in an artifact's folder, and their records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ..frontend import Model
from ..ir import Array, Module
from ..targets import AnyTarget, CudaTarget, MetalTarget, Target
from ..targets.manifest import LibraryRecord, StateRecord
from .artifact_writer import write_parameters
from .built import Built
from .origins import Origins
from .progress import CompileProgress

if TYPE_CHECKING:  # TVM is behind it
    from .preparing import Tensors

__all__ = ["build_for_targets", "build_with_onnx", "check_tools", "tools_of", "write_library"]

Item = TypeVar("Item")


def build_for_targets(
    folder: Path,
    module: Module,
    tensors: Tensors,
    targets: tuple[AnyTarget, ...],
    *,
    max_step_tokens: int,
    origins: Origins,
    progress: CompileProgress,
    tune_seconds: float | None = None,
    tunings: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
) -> Built:
    """Machine code for each target, and weights as its kernels take them."""
    from .lowering import state_layouts
    from .preparing import pack_parameters

    progress.stage("Generating machine code", len(targets))
    (folder / "lib").mkdir()
    libraries = []
    for target in targets:
        with origins.naming():
            tuning = tunings.get(target.name, {})
            if tune_seconds is not None and not tuning and isinstance(target, Target):
                from .tuning import tiling_record, tune

                tuning = tiling_record(tune(module, target, seconds=tune_seconds))
            libraries.append(
                write_library(folder, module, target, max_step_tokens=max_step_tokens, tuning=tuning)
            )
        progress.advance()
    progress.stage("Packing weights", len(module.forward.parameters))
    packed = _watched(pack_parameters(module, tensors), progress.advance)
    parameters, weights = write_parameters(folder, packed)
    states = tuple(
        StateRecord(array.name, array.shape, array.dtype)
        for arrays in state_layouts(module.forward).values()
        for array in arrays
    )
    return Built(parameters, states, tuple(libraries), weights, tools_of(targets))


def check_tools(targets: Iterable[AnyTarget]) -> None:
    """Raise :class:`CompileError` where a linker for one of ``targets`` is not installed: before a model is
    read and quantized.
    """
    from .link.zig import require_zig

    if any(_is_for_macos(target) for target in targets):
        require_zig()


def tools_of(targets: Iterable[AnyTarget]) -> dict[str, str]:
    """Versions of what makes the machine code of ``targets``."""
    from .cuda.build import toolchain as cuda_toolchain
    from .library import toolchain
    from .link.zig import zig_version

    tools = toolchain()
    if any(isinstance(target, CudaTarget) for target in targets):
        tools |= cuda_toolchain()
    if any(_is_for_macos(target) for target in targets):
        tools["zig"] = zig_version()
    return tools


def _is_for_macos(target: AnyTarget) -> bool:
    return isinstance(target, MetalTarget) or (isinstance(target, Target) and target.system == "Darwin")


def write_library(
    folder: Path,
    module: Module,
    target: AnyTarget,
    *,
    max_step_tokens: int,
    tuning: Mapping[str, int] = MappingProxyType({}),
) -> LibraryRecord:
    """Machine code of a module's step for one target, in the artifact's folder ``lib``; its record.

    ``tuning`` is how products are cut, as :func:`.tuning.tiling_record` has it, and empty where nobody
    measured.
    """
    path = folder / "lib" / target.library_name
    where = f"lib/{target.library_name}"
    if isinstance(target, Target):
        from .library import build_library
        from .tuning import read_tiling

        build_library(module, target, path, max_step_tokens=max_step_tokens, tiling=read_tiling(tuning))
        return LibraryRecord(
            target=target.name,
            path=where,
            system=target.system,
            machine=target.machine,
            features=tuple(sorted(target.features)),
            rank=target.rank,
            tiling=dict(tuning),
        )
    record = LibraryRecord(target.name, where, system="", machine="", features=(), rank=target.rank)
    if isinstance(target, MetalTarget):
        from .metal.library import build_metal_library

        build_metal_library(module, path)
        return msgspec.structs.replace(record, backend="metal")
    from .cuda.library import build_cuda_library

    build_cuda_library(module, target, path)
    return msgspec.structs.replace(record, features=(target.architecture,), backend="cuda")


def build_with_onnx(
    folder: Path,
    module: Module,
    tensors: Tensors,
    model: Model,
    *,
    max_seq_len: int,
    origins: Origins,
    progress: CompileProgress,
) -> Built:
    """Graphs for ONNX Runtime, their weights beside them."""
    from .onnx import build_onnx
    from .preparing import parameter_values

    progress.stage("Writing the graph and its weights", len(module.forward.parameters))
    values = parameter_values(module, tensors)

    def compute(name: str) -> Array:
        progress.advance()
        return values(name)

    with origins.naming():
        return build_onnx(
            folder,
            module,
            compute,
            model_type=model.config.model_type,
            max_seq_len=max_seq_len,
            eos=model.config.eos_token_ids,
        )


def _watched(items: Iterable[Item], advance: Callable[[], None]) -> Iterator[Item]:
    for item in items:
        yield item
        advance()
