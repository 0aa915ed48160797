"""A machine with an emulated GPU of Apple's: plans and shaders are Metal's, the driver replaying them CUDA's.

So tests that are written for any machine can be Metal's too: here ``gpu`` is such a GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ingot.codegen.cuda import library
from ingot.codegen.cuda.build import CudaCode
from ingot.codegen.gpu.kernel import DeviceFunction, source_of
from ingot.codegen.metal.machine import METAL
from ingot.targets import cuda

from ..cuda import one_step, steps, test_token_choice
from ..cuda.emulated import emulated_driver
from .emulated import compile_shaders


@pytest.fixture(scope="session")
def emulation_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulation")


@pytest.fixture(scope="module")
def as_metal() -> Iterator[None]:
    """What tests' helpers compile for CUDA is compiled for Metal."""

    def compile_functions(functions: Sequence[DeviceFunction], folder: Path) -> Path:
        return compile_shaders(source_of(functions, METAL), folder, for_cuda=True)

    with pytest.MonkeyPatch.context() as patch:
        for module in (one_step, steps, test_token_choice):
            patch.setattr(module, "CUDA", METAL)
            patch.setattr(module, "compile_emulated", compile_functions)
        yield


@pytest.fixture
def gpu(emulation_folder: Path, tmp_path: Path, as_metal: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The driver. What is compiled for CUDA meanwhile is compiled for Metal instead, and emulated."""
    driver = emulated_driver(emulation_folder)
    counter = itertools.count()

    def build(text: str, architecture: str) -> CudaCode:
        folder = tmp_path / f"shaders{next(counter)}"
        folder.mkdir()
        return CudaCode(str(compile_shaders(text, folder, for_cuda=True)).encode() + b"\0", b"")

    monkeypatch.setattr(library, "CUDA", METAL)
    monkeypatch.setattr(library, "build_program", build)
    monkeypatch.setattr(cuda, "DRIVER", str(driver))
    return driver
