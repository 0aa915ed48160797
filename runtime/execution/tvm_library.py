"""TVM's runtime, and nothing else of it.

TVM's small runtime library and the package of its calls, ``tvm_ffi``, suffice to run artifacts. The package
``tvm`` is not imported: that alone takes a third of a second, and most of it is the compiler's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...ir.errors import ArtifactError
from ...targets.manifest import ENTRY
from ...targets.threads import use_all_cores
from .memory import empty_pages

if TYPE_CHECKING:
    import tvm_ffi

__all__ = ["copied", "load_library", "open_machine", "open_step", "shared"]

_CPU = 1  # DLPack's number
_POOLED = 2  # memory between kernels is kept from step to step


def load_library(library: Path) -> tvm_ffi.Module:
    """A library's functions; raises :class:`ArtifactError` where it cannot be loaded.

    Kernels will use all cores.
    """
    use_all_cores()
    try:
        module: tvm_ffi.Module = _runtime().load_module(str(library))
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ArtifactError(f"{library} cannot be loaded: {reason}") from error
    return module


def open_step(library: Path) -> Callable[..., object]:
    """The function of a library that runs a step; raises :class:`ArtifactError` where it cannot be loaded."""
    step: Callable[..., object] = open_machine(library)[ENTRY]
    return step


def open_machine(library: Path) -> tvm_ffi.Module:
    """The virtual machine of a library; raises :class:`ArtifactError` where it cannot be loaded."""
    machine: tvm_ffi.Module = load_library(library)["vm_load_executable"]()
    machine["vm_initialization"](_CPU, 0, _POOLED)
    return machine


def shared(array: npt.NDArray[np.generic]) -> object:
    """``array`` as kernels see it, without a copy; it begins at a multiple of 64 bytes."""
    return _runtime().from_dlpack(array)


def copied(array: npt.NDArray[np.generic]) -> object:
    """A copy of ``array`` as kernels see it."""
    copy = empty_pages(array.shape, array.dtype)
    copy[...] = array
    return shared(copy)


@cache
def _runtime() -> ModuleType:
    """The package of TVM's calls, with its runtime loaded."""
    # It imports torch wherever that is installed, which takes seconds and serves nobody here.
    with _without("torch"):
        import tvm_ffi
        from tvm_ffi.libinfo import load_lib_ctypes

    found = find_spec("tvm")
    folders = [] if found is None or found.origin is None else [Path(found.origin).parent / "lib"]
    load_lib_ctypes("tvm", "tvm_runtime", "RTLD_GLOBAL", extra_lib_paths=folders)
    return tvm_ffi  # type: ignore[no-any-return]


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Let imports of a package that is not loaded yet fail for a while."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
