"""What a backend makes of a module: libraries and weights in an artifact's folder, and their records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..frontend import Model
from ..ir import Array, Module
from ..targets import Target
from ..targets.manifest import FileRecord, LibraryRecord, ParameterRecord, StateRecord
from .artifact_writer import write_parameters
from .origins import Origins
from .progress import CompileProgress

if TYPE_CHECKING:  # TVM is behind it
    from .preparing import Tensors

__all__ = ["Built", "build_with_onnx", "build_with_tvm"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Built:
    """What the manifest says of libraries and weights; ``weights`` is the file of these, hashed already."""

    parameters: tuple[ParameterRecord, ...]
    states: tuple[StateRecord, ...]
    libraries: tuple[LibraryRecord, ...]
    weights: FileRecord
    toolchain: Mapping[str, str]
    notes: tuple[str, ...] = ()


def build_with_tvm(
    folder: Path,
    module: Module,
    tensors: Tensors,
    targets: tuple[Target, ...],
    *,
    max_step_tokens: int,
    origins: Origins,
    progress: CompileProgress,
) -> Built:
    """Machine code for each target, and weights as its kernels take them."""
    from .library import build_library, toolchain
    from .lowering import state_layouts
    from .preparing import pack_parameters

    progress.stage("Generating machine code", len(targets))
    (folder / "lib").mkdir()
    for target in targets:
        library = folder / "lib" / target.library_name
        with origins.naming():
            build_library(module, target, library, max_step_tokens=max_step_tokens)
        progress.advance()
    progress.stage("Packing weights", len(module.forward.parameters))
    packed = _watched(pack_parameters(module, tensors), progress.advance)
    parameters, weights = write_parameters(folder, packed)
    states = tuple(
        StateRecord(array.name, array.shape, array.dtype)
        for arrays in state_layouts(module.forward).values()
        for array in arrays
    )
    return Built(parameters, states, tuple(map(_library_record, targets)), weights, toolchain())


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
        parts = build_onnx(
            folder,
            module,
            compute,
            model_type=model.config.model_type,
            max_seq_len=max_seq_len,
            eos=model.config.eos_token_ids,
        )
    return Built(
        parts.parameters, parts.states, (parts.library,), parts.weights, parts.toolchain, parts.notes
    )


def _watched(items: Iterable[Item], advance: Callable[[], None]) -> Iterator[Item]:
    for item in items:
        yield item
        advance()


def _library_record(target: Target) -> LibraryRecord:
    return LibraryRecord(
        target=target.name,
        path=f"lib/{target.library_name}",
        system=target.system,
        machine=target.machine,
        features=tuple(sorted(target.features)),
        rank=target.rank,
    )
