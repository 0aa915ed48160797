"""A machine that shows the fake of a Mac's GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ingot.targets import metal

from .mac import Mac, fake_library, native_host_library


@pytest.fixture(scope="session")
def mac_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mac")


@pytest.fixture(scope="session")
def host_library(mac_folder: Path) -> bytes:
    return native_host_library(mac_folder)


@pytest.fixture
def mac(mac_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mac]:
    fake = fake_library(mac_folder)
    monkeypatch.setattr(metal, "OBJECTIVE_C", str(fake))
    monkeypatch.setattr(metal, "FRAMEWORK", str(fake))
    metal._find.cache_clear()
    yield Mac(fake, tmp_path / "shaders")
    metal._find.cache_clear()
