"""A launch plan, its kernels and what launches them, as files of an artifact."""

from __future__ import annotations

from pathlib import Path

from ...ir import Module
from ...targets.launch_plan import write_plan
from ..gpu.kernel import source_of
from ..gpu.lower import plan_step
from .host_library import build_host_library
from .machine import METAL

__all__ = ["build_metal_library"]


def build_metal_library(module: Module, path: Path) -> None:
    """Write the plan of ``module``'s step to ``path``, and beside it its kernels and the host library.

    Kernels are there as source, which the Mac's driver compiles for its GPU when they are loaded: Apple's
    tools alone make machine code. The host library is machine code for the Mac's processor.

    Raises :class:`CompileError` where an operator has no kernel on Metal, or there is no compiler for C.
    """
    host = build_host_library()
    plan, functions = plan_step(module, METAL, (f"{path.stem}.metal",))
    write_plan(path, plan)
    path.with_suffix(".metal").write_text(source_of(functions, METAL), encoding="utf-8")
    path.with_suffix(".dylib").write_bytes(host)
