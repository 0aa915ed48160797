"""The wheel holds the whole package and nothing else, and works where the repository is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .tree import DATA_FILES, ROOMS, ROOT, package_files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the tree as it is, built in a copy: setuptools leaves things where it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "__main__.py", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    (source / "tests").mkdir()
    (source / "tests" / "test_nothing.py").touch()
    _pip("wheel", str(source), "--no-build-isolation", "--wheel-dir", str(folder))
    (built,) = folder.glob("ingot-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with nothing but the wheel installed in it."""
    folder = wheel.parent / "installed"
    _pip("install", str(wheel), "--target", str(folder))
    return folder


def _pip(command: str, *arguments: str) -> None:
    line = [sys.executable, "-m", "pip", command, "--no-deps", "--no-index", "--quiet", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _run(installed: Path, *line: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        line, cwd=installed.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    expected = (*package_files(), *DATA_FILES)
    assert sorted(names) == sorted(f"ingot/{path.as_posix()}" for path in expected)


def test_it_runs_outside_the_repository(installed: Path) -> None:
    said = _run(installed, sys.executable, "-c", "import ingot; print(ingot.__file__)")
    assert Path(said.strip()) == installed / "ingot" / "__init__.py"
    by_script = _run(installed, sys.executable, str(installed / "bin" / "ingot"), "--help")
    assert by_script == _run(installed, sys.executable, "-m", "ingot", "--help")
    assert "Compile a model into an artifact." in by_script


@pytest.mark.parametrize("command", ["compile", "run", "serve", "inspect", "models", "targets"])
def test_every_command_is_in_it(installed: Path, command: str) -> None:
    assert f"Usage: ingot {command}" in _run(installed, sys.executable, "-m", "ingot", command, "--help")
