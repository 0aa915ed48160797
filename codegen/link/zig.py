"""Zig's C compiler and linker for macOS, of the ``ziglang`` package, which is an optional dependency."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from ...ir.errors import CompileError

__all__ = ["MACOS", "has_zig", "link_with_zig", "require_zig", "zig_version"]

MACOS = "macos.11.0"
"""The first system for Apple silicon, which the wheels of TVM are for as well."""


def has_zig() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("ziglang") is not None


def require_zig() -> None:
    """Raise :class:`CompileError` where the package is not installed."""
    if not has_zig():
        raise CompileError(
            "linking for macOS needs the package 'ziglang', which is not installed: pip install '.[cross]' "
            "in ingot's repository brings it"
        )


def zig_version() -> str:
    """The package's version."""
    return version("ziglang")


def link_with_zig(folder: Path, files: list[str], *, architecture: str, name: str) -> bytes:
    """A library for macOS, of objects and C sources in ``folder``; the install name is ``@rpath/NAME``.

    Names that nothing defines are left to the dynamic loader, and of C sources only what says so is shown to
    others. The bytes depend on the files alone: what is for debuggers, which has their places, is left out.

    Raises:
        CompileError: the package ``ziglang`` is not installed, or it refuses the files.
    """
    require_zig()
    output = folder / name
    command = [
        *(sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-{MACOS}", "-std=c11", "-O2"),
        *("-fvisibility=hidden", "-shared", "-s", "-Wl,-undefined,dynamic_lookup"),
        *(f"-Wl,-install_name,@rpath/{name}", "-o", str(output)),
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise CompileError(f"zig could not link for {architecture}-macos: {reason}.")
    return output.read_bytes()
