"""A launch plan and its machine code, as files of an artifact."""

from __future__ import annotations

from pathlib import Path

from ...ir import Module
from ...targets.cuda import CudaTarget
from ...targets.launch_plan import write_plan
from ..gpu.kernel import source_of
from ..gpu.lower import plan_step
from .build import build_program
from .machine import CUDA

__all__ = ["build_cuda_library"]


def build_cuda_library(module: Module, target: CudaTarget, path: Path) -> None:
    """Write the plan of ``module``'s step to ``path``, and beside it its kernels for ``target``.

    They are there as machine code for the target's architecture, and as PTX, from which the driver makes that
    of later ones.

    Raises :class:`CompileError` where an operator has no kernel on CUDA, or there is no compiler for them.
    """
    modules = f"{path.stem}.cubin", f"{path.stem}.ptx"
    plan, functions = plan_step(module, CUDA, modules)
    code = build_program(source_of(functions, CUDA), target.architecture)
    write_plan(path, plan)
    path.with_name(modules[0]).write_bytes(code.cubin)
    path.with_name(modules[1]).write_bytes(code.ptx)
