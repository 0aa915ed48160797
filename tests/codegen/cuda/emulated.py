"""A CUDA device that is this machine's CPU: kernels are compiled as C++ and run thread by thread.

``compile_emulated`` makes kernels that ``emulated_driver``, which stands in for libcuda, loads and launches.
So all is run that runs on a GPU, but the GPU. Both need g++.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from ingot.codegen.cuda.machine import CUDA
from ingot.codegen.gpu.kernel import DeviceFunction, source_of

EMULATION = Path(__file__).with_name("emulation")
SCHEDULER = Path(__file__).parents[1] / "emulation"
"""With ``fibers.h``, of which the machines are made."""

HAS_WARPGROUPS = True
"""Whether the emulated GPU is Hopper, or one before it."""

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="the emulation of a GPU is compiled by g++"
)


def compile_emulated(functions: Sequence[DeviceFunction], folder: Path) -> Path:
    """The kernels as a library for the emulated driver."""
    text = source_of(functions, CUDA, header=(EMULATION / "machine.h").read_text())
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(text + "\n".join(_launcher(function) for function in functions))
    warpgroups = f"-DINGOT_WARPGROUPS={int(HAS_WARPGROUPS)}"
    _compile(source, library, "-ffp-contract=off", "-mf16c", "-mfma", warpgroups)
    return library


@cache
def emulated_driver(folder: Path) -> Path:
    """A library in the place of libcuda."""
    library = folder / "libcuda.so"
    _compile(EMULATION / "driver.cpp", library)
    return library


def _compile(source: Path, library: Path, *options: str) -> None:
    command = [
        "g++",
        "-std=c++17",
        "-O1",
        "-w",
        "-shared",
        "-fPIC",
        f"-I{SCHEDULER}",
        *options,
        str(source),
        "-o",
        str(library),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[:4000]


def _launcher(function: DeviceFunction) -> str:
    """What unpacks a kernel's arguments, and says how many there are where it is given no grid."""
    types = [declaration.rsplit(" ", 1)[0] for declaration in function.parameters]
    values = ", ".join(f"*({kind}*)values[{number}]" for number, kind in enumerate(types))
    return (
        f"static void unpack_{function.name}(void** values) {{ {function.name}({values}); }}\n"
        f'extern "C" void launch_{function.name}(const int* grid, int threads, int shared, void** values)\n'
        "{\n"
        f"  if (!grid) {{ *(int*)values[0] = {len(types)}; return; }}\n"
        f"  emulation::launch(unpack_{function.name}, grid, threads, shared, values);\n}}\n"
    )
