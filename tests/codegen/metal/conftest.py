"""Machines with an emulated GPU of Apple's.

``mac`` shows one as macOS does, and ``mac_target`` runs on it what is compiled for Metal. Where tests that
are written for any machine have ``gpu``, plans and shaders are Metal's, and their driver is CUDA's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ingot.codegen.cuda import library
from ingot.codegen.cuda.build import CudaCode
from ingot.codegen.gpu.kernel import DeviceFunction, source_of
from ingot.codegen.gpu.machine import Machine
from ingot.codegen.link import zig
from ingot.codegen.metal import library as metal_library
from ingot.codegen.metal.machine import METAL
from ingot.targets import cuda, metal

from ..cuda import one_step, steps, test_token_choice
from ..cuda.emulated import emulated_driver
from .emulated import compile_shaders
from .host.mac import Mac, fake_library, native_host_library


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


@pytest.fixture(scope="session")
def mac_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mac")


@pytest.fixture(scope="session")
def host_library(mac_folder: Path) -> bytes:
    """That of Macs, for this machine."""
    return native_host_library(mac_folder)


@pytest.fixture
def mac(mac_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mac]:
    fake = fake_library(mac_folder)
    monkeypatch.setattr(metal, "OBJECTIVE_C", str(fake))
    monkeypatch.setattr(metal, "FRAMEWORK", str(fake))
    metal._find.cache_clear()
    yield Mac(fake, tmp_path / "shaders")
    metal._find.cache_clear()


@pytest.fixture
def own_host(host_library: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled for Metal is as always, but that the host library is for this machine, without zig."""
    monkeypatch.setattr(zig, "has_zig", lambda: True)
    monkeypatch.setattr(zig, "zig_version", lambda: "none")
    monkeypatch.setattr(metal_library, "build_host_library", lambda: host_library)


@pytest.fixture
def mac_target(mac: Mac, own_host: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mac]:
    """What is compiled for Metal runs here: the fake knows the shaders, which are compiled as C++. Nothing
    may be objected to, and nothing be left in the end.
    """
    counter = itertools.count()

    def source(functions: Sequence[DeviceFunction], machine: Machine) -> str:
        text = source_of(functions, machine)
        folder = tmp_path / f"shaders{next(counter)}"
        folder.mkdir()
        mac.knows(text, compile_shaders(text, folder))
        return text

    monkeypatch.setattr(metal_library, "source_of", source)
    yield mac
    assert mac.complaints == []
    assert mac.count("living_objects") == mac.count("allocated") == 0
