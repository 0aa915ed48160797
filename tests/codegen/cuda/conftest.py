"""A machine with an emulated GPU: what is compiled for CUDA is compiled for the emulation instead."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from ingot.codegen.cuda import library
from ingot.codegen.cuda.build import CudaCode
from ingot.targets import cuda

from .emulated import compile_emulated, emulated_driver


@pytest.fixture(scope="session")
def emulation_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulation")


@pytest.fixture
def gpu(emulation_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The driver's library. What is compiled for CUDA meanwhile are paths of emulated kernels."""
    driver = emulated_driver(emulation_folder)
    counter = itertools.count()

    def build(functions: object, architecture: str) -> CudaCode:
        folder = tmp_path / f"kernels{next(counter)}"
        folder.mkdir()
        path = compile_emulated(list(functions), folder)  # type: ignore[call-overload]
        return CudaCode(str(path).encode() + b"\0", b"")

    monkeypatch.setattr(library, "build_program", build)
    monkeypatch.setattr(library, "source_of", lambda functions, machine: functions)
    monkeypatch.setattr(cuda, "DRIVER", str(driver))
    return driver
