"""A Mac that is this machine: the host library compiled for its processor, over a fake of what macOS has.

The fake is an Objective-C runtime and the classes of Metal that are used, in C++ (``fake/``). It computes
with what ``tests/codegen/metal/emulated.py`` makes of shaders, notes whatever a real one would object to,
and counts objects.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import zlib
from functools import cache
from pathlib import Path

import pytest
from ingot.codegen.metal.host_library import HOST_SOURCES

FAKE = Path(__file__).with_name("fake")

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or shutil.which("gcc") is None,
    reason="the fake of a Mac is compiled by gcc and g++",
)


class Mac:
    """The fake, and where it finds compiled shaders."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.library, self._folder = library, folder
        self._fake = ctypes.CDLL(str(library))
        self._fake.fake_complaints.restype = ctypes.c_char_p
        for name in ("living_objects", "allocated", "commits", "launches", "shared"):
            getattr(self._fake, f"fake_{name}").restype = ctypes.c_int64
        folder.mkdir(exist_ok=True)
        self._fake.fake_set_libraries(str(folder).encode())
        self._fake.fake_forget_complaints()
        for name, value in DEFAULTS.items():
            self.set(name, value)

    def set(self, name: str, value: int) -> None:
        """Change what it is like: see ``settings`` in ``fake/metal.cpp``."""
        self._fake.fake_set(name.encode(), ctypes.c_int64(value))

    def knows(self, text: str, compiled: Path) -> None:
        """From now on, a program of this text is these kernels."""
        shutil.copy(compiled, self._folder / f"{zlib.crc32(text.encode()):08x}.so")

    def count(self, what: str) -> int:
        """Of ``commits``, ``launches`` and ``shared`` so far, of ``living_objects`` and ``allocated`` now."""
        return int(getattr(self._fake, f"fake_{what}")())

    @property
    def complaints(self) -> list[str]:
        """What a real one would object to."""
        return str(self._fake.fake_complaints().decode()).splitlines()

    def forget_complaints(self) -> None:
        self._fake.fake_forget_complaints()


DEFAULTS = {
    "family": 1007,
    "working_set": 1 << 30,
    "longest_buffer": 1 << 29,
    "math_mode": 1,
    "most_threads": 1024,
    "lanes": 32,
    "fails": 0,
    "shares": 1,
}


@cache
def fake_library(folder: Path) -> Path:
    """What stands for libobjc and the framework Metal."""
    library = folder / "fake_mac.so"
    sources = sorted(str(path) for path in FAKE.glob("*.cpp"))
    _run("g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", *sources, library=library)
    return library


@cache
def native_host_library(folder: Path) -> bytes:
    """The host library for this machine, from the very sources that are compiled for the Mac."""
    library = folder / "host.so"
    sources = sorted(str(path) for path in HOST_SOURCES.glob("*.c"))
    options = (
        "-std=c11",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        "-Wno-unused-function",
        "-Werror",
    )
    _run("gcc", *options, "-fvisibility=hidden", *sources, library=library)
    return library.read_bytes()


def compile_kernels(text: str, folder: Path) -> Path:
    """Kernels that a test writes in C++, with a ``launch_NAME`` each."""
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(text)
    _run("g++", "-std=c++17", "-O1", str(source), library=library)
    return library


def _run(*command: str, library: Path) -> None:
    whole = [*command, "-shared", "-fPIC", "-o", str(library)]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[:4000]
