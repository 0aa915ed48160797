"""Models compiled once into the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ingot import CompileError, ModelError
from ingot.codegen import model_cache
from ingot.codegen.model_cache import cache_folder, cached_artifact
from ingot.targets import read_manifest

TINYCHAT = Path(__file__).parents[2] / "examples" / "tinychat" / "model"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of tinychat, with an empty cache beside it."""
    monkeypatch.setenv("INGOT_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(TINYCHAT, tmp_path / "tiny chat"))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The artifacts that were compiled, where compiling only puts a manifest in the place."""
    made: list[Path] = []

    def compile_apart(source: str, artifact: Path, options: object, *, show_progress: bool) -> None:
        artifact.mkdir()
        (artifact / "manifest.json").touch()
        made.append(artifact)

    monkeypatch.setattr(model_cache, "compile_apart", compile_apart)
    return made


def test_two_processes_compile_once(model: Path, tmp_path: Path) -> None:
    code = "import sys; from ingot.codegen.model_cache import cached_artifact as c; print(c(sys.argv[1]))"
    line = [sys.executable, "-c", code, str(model)]
    running = [
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    printed = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], printed
    (path,) = {out.strip() for out, _ in printed}
    assert Path(path).parent == tmp_path / "cache"
    assert Path(path).name.startswith("tiny-chat-")
    assert read_manifest(Path(path)).quant == "none"
    announced = "".join(err for _, err in printed)
    assert announced.count(f"ingot: compiling {model}, once, into {path}\n") == 1


def test_it_is_compiled_again_when_the_model_changes_and_not_before(
    model: Path, compiled: list[Path]
) -> None:
    first = cached_artifact(str(model))
    assert cached_artifact(str(model)) == first
    assert compiled == [first]

    config = model / "config.json"
    status = config.stat()
    os.utime(config, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    second = cached_artifact(str(model))
    (model / "notes.txt").write_text("of no matter")
    assert cached_artifact(str(model)) == second
    assert compiled == [first, second]


def test_it_is_compiled_again_when_the_compiler_changes(
    model: Path, compiled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached_artifact(str(model))
    monkeypatch.setattr(model_cache, "_compiler_hash", lambda: "another compiler")
    second = cached_artifact(str(model))
    assert compiled == [first, second]
    assert first != second


def test_what_the_compilers_process_refuses_is_refused_here(
    model: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(CompileError, match=r"tiny chat holds no tokenizer\.json"):
        cached_artifact(str(model))
    assert "Traceback" not in capfd.readouterr().err
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_what_is_no_model_is_refused_unannounced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INGOT_CACHE", str(tmp_path / "cache"))
    for name in ("nowhere", str(tmp_path)):
        with pytest.raises(ModelError, match=name):
            cached_artifact(name)
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_CACHE", str(model / "config.json" / "cache"))
    with pytest.raises(CompileError, match=r"cannot be written .*; INGOT_CACHE names another"):
        cached_artifact(str(model))


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("INGOT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "ingot"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/caches")
    assert cache_folder() == tmp_path / ".cache" / "ingot"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/ingot")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "ingot"
    monkeypatch.setenv("INGOT_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
