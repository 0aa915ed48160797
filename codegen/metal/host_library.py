"""What launches kernels on a Mac: a library for its processor, of the C sources in ``host/``."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from ..link.zig import link_with_zig

__all__ = ["HOST_SOURCES", "build_host_library"]

HOST_SOURCES = Path(__file__).with_name("host")

_NAME = "metal.dylib"


@cache
def build_host_library() -> bytes:
    """The library, the same for all models.

    Raises :class:`CompileError` where the package ``ziglang`` is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="ingot-metal-") as name:
        folder = Path(shutil.copytree(HOST_SOURCES, Path(name) / "host"))
        files = sorted(path.name for path in folder.glob("*.c"))
        return link_with_zig(folder, files, architecture="aarch64", name=_NAME)
