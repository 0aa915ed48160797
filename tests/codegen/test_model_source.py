"""What a user named, found on disk or on a hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ingot import ModelError
from ingot.codegen.model_source import ModelSource, find_model

from ..frontend.stand_in_hub import Repository, serve_hub
from ..frontend.tiny_folder import tiny_files, write_files

COMMIT = "c" * 40


def test_a_folder_is_found_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tiny model, 2nd"
    write_files(folder, tiny_files())
    found = ModelSource("tiny-model-2nd", str(folder), folder)
    assert find_model(str(folder)) == found
    monkeypatch.chdir(folder)
    assert find_model(".") == found


def test_a_gguf_file_is_a_model_with_all_its_parts(tmp_path: Path) -> None:
    parts = [tmp_path / f"tiny-q4-{number:05}-of-00002.gguf" for number in (1, 2)]
    for path in (*parts, tmp_path / "other.gguf"):
        path.touch()
    found = find_model(str(parts[1]))
    assert found == ModelSource("tiny-q4", str(parts[1]), parts[1])
    assert found.files == tuple(parts)


def test_what_is_neither_here_nor_on_a_hub_is_refused() -> None:
    with pytest.raises(ModelError, match="'nowhere' is neither a folder that exists nor a hub id"):
        find_model("nowhere")


def _find_on_hub(model: str, endpoint: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Find ``model`` in a process of its own: the hub's client reads its environment when it is imported."""
    code = "import sys; from ingot.codegen.model_source import find_model; print(find_model(sys.argv[1]))"
    hub = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}
    return subprocess.run(
        [sys.executable, "-c", code, model],
        env={**os.environ, **hub, "TTY_COMPATIBLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_repository_is_downloaded_under_a_bar_and_pinned_to_its_commit(tmp_path: Path) -> None:
    with serve_hub({"someone/tiny": Repository(tiny_files(), commit=COMMIT)}) as hub:
        first = _find_on_hub("someone/tiny", hub.address, tmp_path)
        assert first.returncode == 0, first.stderr
        assert "Downloading" in first.stderr
        again = _find_on_hub("someone/tiny", hub.address, tmp_path)
        assert again.stdout == first.stdout
        assert "Downloading" not in again.stderr
        address = hub.address
    assert f"source='someone/tiny@{COMMIT}'" in first.stdout
    assert "name='tiny'" in first.stdout
    # What is compiled is that commit, which is here: no hub is asked, none could answer now.
    pinned = _find_on_hub(f"someone/tiny@{COMMIT}", address, tmp_path)
    assert pinned.stdout == first.stdout, pinned.stderr
