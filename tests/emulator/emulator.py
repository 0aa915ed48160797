"""Instructions that this machine lacks, performed in software: AMX, AVX-VNNI and AVX-VNNI-INT8.

``emulator.c`` catches the signal that an unknown instruction raises, performs the instruction as Intel's
manual says, and goes on behind it. So code for other machines runs here as it is, whatever compiled it::

    emulator = find_emulator()
    if isinstance(emulator, str):
        pytest.skip(emulator)            # says why there is none: no C compiler, another machine
    with emulator:
        kernel(...)
        if emulator.stands_in_for("amx_int8"):
            assert emulator.counts()["tdpbssd"] == 4

It holds inside ``with``, for all threads of the process. An instruction costs some ten microseconds: keep
shapes small. What hardware would refuse (a tile that was not configured, shapes that do not fit) ends the
process with SIGILL and a sentence on standard error. A machine that has the instructions performs them
itself, and nothing is counted.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from types import TracebackType

from ingot.targets import detect_host

__all__ = ["EMULATED_FEATURES", "Emulator", "build_library", "find_emulator"]

EMULATED_FEATURES = frozenset({"amx_tile", "amx_int8", "amx_bf16", "avx_vnni", "avx_vnni_int8"})
"""What is emulated, as Linux calls it."""

_KINDS = (
    "ldtilecfg",
    "sttilecfg",
    "tilerelease",
    "tilezero",
    "tileloadd",
    "tileloaddt1",
    "tilestored",
    "tdpbssd",
    "tdpbsud",
    "tdpbusd",
    "tdpbuud",
    "tdpbf16ps",
    "vpdpb",
    "vpdpw",
)
"""In the order of ``emulator_counts``; the last two are all of AVX-VNNI over bytes and over words."""


class Emulator:
    """Performs what traps, inside ``with``."""

    def __init__(self, folder: tempfile.TemporaryDirectory[str]) -> None:
        self._folder = folder
        self.path = Path(folder.name) / "emulator.so"
        build_library(Path(__file__).with_name("emulator.c"), self.path)
        self._library = ctypes.CDLL(str(self.path))
        self._counts = (ctypes.c_int64 * len(_KINDS)).in_dll(self._library, "emulator_counts")

    def stands_in_for(self, feature: str) -> bool:
        """Whether this machine lacks a feature, as Linux calls it, so that its instructions are counted."""
        return feature not in detect_host().features

    def counts(self) -> dict[str, int]:
        """Instructions performed since ``with`` began, by name."""
        return dict(zip(_KINDS, self._counts, strict=True))

    def __enter__(self) -> Emulator:
        ctypes.memset(self._counts, 0, ctypes.sizeof(self._counts))
        assert self._library.emulator_install() == 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._library.emulator_remove() == 0


def build_library(source: Path, library: Path) -> None:
    """Compile C or assembly to a shared library."""
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", source, "-o", library], check=True)


@cache
def find_emulator() -> Emulator | str:
    """The emulator, or why there is none."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "the emulator of AMX is for Linux on x86-64"
    if not {"avx2", "fma"} <= detect_host().features:
        return "the emulator of AMX needs AVX2"
    if shutil.which("cc") is None:
        return "needs cc, to build the emulator of AMX"
    return Emulator(tempfile.TemporaryDirectory())
