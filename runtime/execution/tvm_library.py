"""TVM's runtime, and nothing else of it.

TVM's small runtime library suffices to run artifacts and loads in a fraction of the time of the compiler's.
Importing TVM also imports torch wherever that is installed, which takes seconds and serves nobody here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ...ir.errors import ArtifactError
from ...targets.manifest import ENTRY
from ...targets.threads import use_all_cores

__all__ = ["import_tvm", "open_machine", "open_step"]


def import_tvm() -> ModuleType:
    """TVM, as runtime alone unless this process has its compiler already; kernels will use all cores."""
    use_all_cores()
    if "tvm" not in sys.modules:
        os.environ["TVM_USE_RUNTIME_LIB"] = "1"
    with _without("torch"):
        import tvm
        import tvm.runtime.vm
    return tvm  # type: ignore[no-any-return]


def open_step(tvm: ModuleType, library: Path) -> Any:
    """The function of a library that runs a step; raises :class:`ArtifactError` where it cannot be loaded."""
    return open_machine(tvm, library)[ENTRY]


def open_machine(tvm: ModuleType, library: Path) -> Any:
    """The virtual machine of a library; raises :class:`ArtifactError` where it cannot be loaded."""
    try:
        return tvm.runtime.vm.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.runtime.cpu())
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ArtifactError(f"{library} cannot be loaded: {reason}") from error


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
