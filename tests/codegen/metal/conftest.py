"""A machine with an emulated GPU of Apple's: plans and shaders are Metal's, the driver that replays them is CUDA's."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from ingot.codegen.cuda import library
from ingot.codegen.cuda.build import CudaCode
from ingot.codegen.metal.machine import METAL
from ingot.targets import cuda

from ..cuda.emulated import emulated_driver
from .emulated import compile_shaders


@pytest.fixture(scope="session")
def emulation_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulation")


@pytest.fixture
def shaders(emulation_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is compiled for CUDA meanwhile is compiled for Metal instead, and emulated."""
    driver = emulated_driver(emulation_folder)
    counter = itertools.count()

    def build(text: str, architecture: str) -> CudaCode:
        folder = tmp_path / f"shaders{next(counter)}"
        folder.mkdir()
        return CudaCode(str(compile_shaders(text, folder)).encode() + b"\0", b"")

    monkeypatch.setattr(library, "CUDA", METAL)
    monkeypatch.setattr(library, "build_program", build)
    monkeypatch.setattr(cuda, "DRIVER", str(driver))
    return driver
