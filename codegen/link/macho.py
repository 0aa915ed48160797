"""Mach-O libraries, whose linker is zig's.

A Mach-O library must carry a code signature and what the loader binds, which is a linker's whole second half;
what Apple's machines need is therefore left to a linker that has it.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from .zig import link_with_zig

__all__ = ["link_macho"]


def link_macho(objects: Sequence[bytes], *, architecture: str, name: str = "library.dylib") -> bytes:
    """Link Mach-O objects for macOS on ``aarch64`` or ``x86_64`` into a dynamic library.

    Names that no object defines are left to the dynamic loader. The install name is ``@rpath/NAME``.

    Raises:
        CompileError: the package ``ziglang`` is not installed, or its linker fails.
    """
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        files = [f"object{index}.o" for index in range(len(objects))]
        for file, data in zip(files, objects, strict=True):
            (folder / file).write_bytes(data)
        return link_with_zig(folder, files, architecture=architecture, name=name)
