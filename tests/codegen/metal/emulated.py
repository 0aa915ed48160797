"""A Mac's GPU that is this machine's CPU: shaders are compiled as C++ and run thread by thread.

``compile_shaders`` takes the very text that a Mac is given. What it makes has for each kernel NAME a function
``launch_NAME(grid, threads, values)``, of pointers to the values of its arguments; without a grid, it says in
``*values[0]`` how many arguments there are.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from .lint import lint
from .strict_clang import has_clang, problems

EMULATION = Path(__file__).with_name("emulation")
SCHEDULER = Path(__file__).parents[1] / "emulation"

_KERNEL = re.compile(
    r"\[\[kernel, max_total_threads_per_threadgroup\((\d+)\)\]\] void (\w+)\(\n *(.*)\) \{\n"
)
_BUFFER = re.compile(r"(.*) \[\[buffer\((\d+)\)\]\]")
_HERE = (
    "{unsigned(emulation::block.x), unsigned(emulation::block.y), unsigned(emulation::block.z)}",
    "unsigned(emulation::current)",
    "unsigned(emulation::current % emulation::LANES)",
    "unsigned(emulation::current / emulation::LANES)",
)
"""In the order in which kernels are told where they run."""


def compile_shaders(text: str, folder: Path, *, for_cuda: bool = False) -> Path:
    """A program of shaders as a library, once they are found to be what Metal takes.

    Where it is ``for_cuda``, launches are given ``shared`` bytes behind ``threads``, as those of CUDA's are.
    """
    assert not lint(text)
    assert not has_clang or not problems(text)
    source, library = folder / "shaders.cpp", folder / "shaders.so"
    source.write_text(text + "\n".join(_launcher(*kernel, for_cuda) for kernel in _KERNEL.findall(text)))
    command = [
        "g++",
        "-std=c++14",
        "-O1",
        "-w",
        "-shared",
        "-fPIC",
        "-ffp-contract=off",
        "-fno-strict-aliasing",
    ]
    command += ["-fsigned-char", f"-I{EMULATION}", f"-I{SCHEDULER}", *_cpu_options()]
    done = subprocess.run(
        [*command, str(source), "-o", str(library)], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr[:4000]
    return library


def _cpu_options() -> tuple[str, ...]:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return ("-mf16c", "-mfma") if " f16c" in flags and " fma" in flags else ()


def _launcher(threads: str, name: str, parameters: str, for_cuda: bool) -> str:
    """What unpacks a kernel's arguments."""
    values = []
    for number, parameter in enumerate(parameters.split(", ")[: -len(_HERE)]):
        match = _BUFFER.fullmatch(parameter)
        assert match is not None
        assert int(match[2]) == number
        kind = match[1].rpartition(" ")[0].replace("&", "")
        values.append(f"*({kind}*)values[{number}]")
    return (
        f"static void unpack_{name}(void** values) {{ {name}({', '.join([*values, *_HERE])}); }}\n"
        f'extern "C" void launch_{name}(const int* grid, int threads, {"int, " * for_cuda}void** values) {{\n'
        f"  if (!grid) {{ *(int*)values[0] = {len(values)}; return; }}\n"
        f"  if (threads != {threads}) abort();\n"
        f"  emulation::launch(unpack_{name}, grid, threads, values);\n}}\n"
    )
