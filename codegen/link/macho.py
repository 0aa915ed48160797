"""Mach-O libraries, linked by the ``ziglang`` package, which is an optional dependency.

A Mach-O library must carry a code signature and chained fixups, which is a linker's whole second half; what
Apple's machines need is therefore left to a linker that has it.
"""

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...ir.errors import CompileError

__all__ = ["link_macho"]


def link_macho(objects: Sequence[bytes], *, architecture: str, name: str = "library.dylib") -> bytes:
    """Link Mach-O objects for macOS on ``aarch64`` or ``x86_64`` into a dynamic library.

    Names that no object defines are left to the dynamic loader. The install name is ``@rpath/NAME``.

    Raises:
        CompileError: the package ``ziglang`` is not installed, or its linker fails.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise CompileError(
            "linking for macOS needs the package 'ziglang', which is not installed: pip install '.[cross]' "
            "in ingot's repository brings it"
        )
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"object{index}.o") for index in range(len(objects))]
        for file, data in zip(files, objects, strict=True):
            file.write_bytes(data)
        output = Path(folder, name)
        command = [
            *(sys.executable, "-m", "ziglang", "cc"),
            *("-target", f"{architecture}-macos", "-shared", "-Wl,-undefined,dynamic_lookup"),
            *(f"-Wl,-install_name,@rpath/{name}", "-o", str(output)),
            *map(str, files),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise CompileError(f"zig could not link for {architecture}-macos: {reason}.")
        return output.read_bytes()
