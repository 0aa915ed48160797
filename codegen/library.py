"""Machine code: a module of one step, compiled for one target and linked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tvm

from ..ir import Module
from ..ir.errors import CompileError
from ..targets import Target
from .kernels.isa import Tiling, isa_of
from .kernels.probe import probe_kernels
from .link import export_executable
from .lowering import MAX_STEP_TOKENS, lower

__all__ = ["build_library", "llvm_target", "toolchain"]


def llvm_target(target: Target) -> tvm.target.Target:
    """TVM's description of a CPU target."""
    fields: dict[str, object] = {"kind": "llvm", "mtriple": target.triple, "mcpu": target.cpu}
    if target.attributes:
        fields["mattr"] = list(target.attributes)
    return tvm.target.Target(fields)


def toolchain() -> dict[str, str]:
    """Versions of what makes the machine code."""
    return {"tvm": str(tvm.__version__), "llvm": str(tvm.get_global_func("target.llvm_version_major")())}


def build_library(
    module: Module,
    target: Target,
    path: Path,
    *,
    max_step_tokens: int = MAX_STEP_TOKENS,
    tiling: Tiling | None = None,
) -> None:
    """Write the shared library of ``module``'s step for ``target``, and of the probes of its machine.

    Products are cut as ``tiling`` says, or else as the target's caches say.

    Raises :class:`CompileError` where the module has an operator without a kernel, or TVM refuses.
    """
    isa = replace(isa_of(target), tiling=tiling)
    lowered = lower(module, isa, max_step_tokens)
    for name, probe in probe_kernels(isa).items():
        lowered[name] = probe
    try:
        executable = tvm.compile(lowered, target=llvm_target(target))
    except tvm.error.InternalError as error:
        raise CompileError(
            f"TVM cannot compile for {target.name}: {str(error).strip().splitlines()[-1]}"
        ) from error
    export_executable(executable, path, target.triple)
