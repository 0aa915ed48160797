"""The host library on the processor of a Mac, which passes arguments otherwise than x86-64 does, emulated."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from ingot.codegen.link.zig import has_zig
from ingot.codegen.metal.host_library import HOST_SOURCES

from .mac import FAKE
from .test_device import KERNELS, PROGRAM

SYSROOT = Path("/usr/aarch64-linux-gnu")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not has_zig() or shutil.which("qemu-aarch64") is None or not SYSROOT.exists(),
        reason="needs the extra [cross], qemu-aarch64 and a C library for aarch64",
    ),
]


def test_the_host_library_launches_kernels_there(tmp_path: Path) -> None:
    (tmp_path / "kernels.cpp").write_text(KERNELS)
    shader, fake = tmp_path / f"{zlib.crc32(PROGRAM.encode()):08x}.so", tmp_path / "fake.so"
    _compile("c++", "-std=c++17", "-shared", "-fPIC", tmp_path / "kernels.cpp", "-o", shader)
    _compile("c++", "-std=c++17", "-shared", "-fPIC", *FAKE.glob("*.cpp"), "-o", fake)
    sources = (Path(__file__).with_name("caller.c"), *HOST_SOURCES.glob("*.c"))
    options = ("-std=gnu11", "-rdynamic", f"-I{HOST_SOURCES}", f"-Wl,-rpath,{tmp_path}", "-ldl")
    _compile("cc", *options, *sources, fake, "-o", tmp_path / "caller")
    done = subprocess.run(
        ["qemu-aarch64", "-L", SYSROOT, tmp_path / "caller", fake, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Fake M1\n0 0 3 6 9 12 15 18 21 0 \n0 objects left\n", "")


def _compile(language: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", "ziglang", language, "-target", "aarch64-linux-gnu.2.31", "-O1"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[:4000]
