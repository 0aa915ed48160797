from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download
from ingot.frontend.hub import fetch_gguf, fetch_repository
from ingot.ir.errors import HubError

from .stand_in_hub import INVALID_TOKEN, Repository, serve_hub
from .tiny_folder import tiny_files

NAME = "someone/tiny"


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_fetches_what_is_needed_and_no_copies(tmp_path: Path) -> None:
    files = tiny_files()
    copies = {
        "pytorch_model.bin": b"x",
        "model.gguf": b"x",
        "onnx/model.onnx": b"x",
        "consolidated.safetensors": b"x",
    }
    reports: list[tuple[int, int]] = []
    with serve_hub({NAME: Repository(files | copies | {"README.md": b"x", "tokenizer.json": b"{}"})}) as hub:
        folder = fetch_repository(
            NAME,
            endpoint=hub.address,
            cache_folder=tmp_path,
            progress=lambda done, total: reports.append((done, total)),
        )
        assert hub.fetched() == {*files, "tokenizer.json"}
    assert {path.name for path in folder.iterdir()} == {*files, "tokenizer.json"}
    assert all((folder / name).read_bytes() == content for name, content in files.items())
    size = sum(map(len, files.values())) + len(b"{}")
    assert reports[-1] == (size, size)
    assert all(before <= after for before, after in pairwise(reports))


def test_fetches_the_shards_that_the_index_names(tmp_path: Path) -> None:
    files = tiny_files(shards=2)
    with serve_hub(
        {NAME: Repository(files | {"model-00009-of-00009.safetensors": b"of another model"})}
    ) as hub:
        fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)
        assert hub.fetched() == set(files)


def test_what_torch_saved_is_fetched_where_there_is_nothing_else(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    index = json.dumps({"weight_map": {"a": "part-1.bin", "b": "part-2.bin"}}).encode()
    sharded = {
        "config.json": b"{}",
        "pytorch_model.bin.index.json": index,
        "part-1.bin": b"x",
        "part-2.bin": b"y",
    }
    with serve_hub({NAME: Repository(files), "someone/large": Repository(sharded)}) as hub:
        fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)
        assert hub.fetched() == set(files)
        hub.requests.clear()
        fetch_repository("someone/large", endpoint=hub.address, cache_folder=tmp_path)
        assert hub.fetched() == set(sharded)


def test_one_file_of_gguf_and_all_parts_of_it(tmp_path: Path) -> None:
    parts = {f"q4/m-{number:05}-of-00002.gguf": b"x" * number for number in (1, 2)}
    files = {**tiny_files(), **parts, "m.Q8_0.gguf": b"y"}
    with serve_hub({NAME: Repository(files)}) as hub:
        found = fetch_gguf(NAME, "q4/m-00001-of-00002.gguf", endpoint=hub.address, cache_folder=tmp_path)
        assert hub.fetched() == set(parts)
        assert found.read_bytes() == b"x"
        with pytest.raises(
            HubError, match=r"has no file m.Q2_K.gguf; its GGUF files are m.Q8_0.gguf, q4/m-0"
        ):
            fetch_gguf(NAME, "m.Q2_K.gguf", endpoint=hub.address, cache_folder=tmp_path)


def test_a_second_time_fetches_no_file_again(tmp_path: Path) -> None:
    with serve_hub({NAME: Repository(tiny_files())}) as hub:
        first = fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)
        hub.requests.clear()
        assert fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path) == first
        assert not hub.fetched()


def test_revision(tmp_path: Path) -> None:
    with serve_hub({NAME: Repository(tiny_files(), commit="a" * 40, branches=("main", "v2"))}) as hub:
        folder = fetch_repository(NAME, revision="v2", endpoint=hub.address, cache_folder=tmp_path)
        assert folder.name == "a" * 40
        with pytest.raises(HubError, match=r"someone/tiny on http.* has no revision 'v3'$"):
            fetch_repository(NAME, revision="v3", endpoint=hub.address, cache_folder=tmp_path)


def test_missing_repository(tmp_path: Path) -> None:
    with serve_hub({}) as hub:
        with pytest.raises(HubError, match=r"no repository someone/tiny on http.*private, set HF_TOKEN"):
            fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)
        with pytest.raises(HubError, match=r"no repository someone/tiny on http.*the token may not see it"):
            fetch_repository(NAME, token="hf_x", endpoint=hub.address, cache_folder=tmp_path)


def test_gated_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_hub({NAME: Repository(tiny_files(), token="hf_good", gated=True)}) as hub:
        with pytest.raises(
            HubError, match=rf"is gated: ask for access on {hub.address}/{NAME}.*HF_TOKEN.*hf auth login"
        ):
            fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)
        with pytest.raises(HubError, match=r"is gated, and the token's account has no access"):
            fetch_repository(NAME, token="hf_other", endpoint=hub.address, cache_folder=tmp_path)
        monkeypatch.setenv("HF_TOKEN", "hf_good")
        assert fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path).is_dir()


def test_private_repository_with_a_token(tmp_path: Path) -> None:
    with serve_hub({NAME: Repository(tiny_files(), token="hf_good")}) as hub:
        folder = fetch_repository(NAME, token="hf_good", endpoint=hub.address, cache_folder=tmp_path)
    assert (folder / "model.safetensors").is_file()


def test_a_token_of_no_account(tmp_path: Path) -> None:
    with (
        serve_hub({NAME: Repository(tiny_files())}) as hub,
        pytest.raises(HubError, match=r"http.* does not accept the token for someone/tiny; give a valid one"),
    ):
        fetch_repository(NAME, token=INVALID_TOKEN, endpoint=hub.address, cache_folder=tmp_path)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, r"http.* forbids someone/tiny to this token; one with read access is needed"),
        (500, r"http.* answers 500 for someone/tiny; try again later"),
    ],
)
def test_a_hub_that_does_not_answer_as_it_should(tmp_path: Path, status: int, message: str) -> None:
    with (
        serve_hub({NAME: Repository(tiny_files(), status=status)}) as hub,
        pytest.raises(HubError, match=message),
    ):
        fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)


def test_a_broken_connection_is_taken_up_where_it_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    files = tiny_files()
    with serve_hub({NAME: Repository(files, break_after=1000, breaks=1)}) as hub:
        folder = fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)
        assert hub.ranges() == ["bytes=1000-"]
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_a_download_given_up_keeps_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    files = tiny_files()
    repository = Repository(files, break_after=900, breaks=10**6)
    repository.files["model.safetensors"] = bytes(900 * 10)
    with serve_hub({NAME: repository}) as hub:
        monkeypatch.setattr(file_download, "http_get", _impatient(file_download.http_get))
        with pytest.raises(HubError, match="could not be downloaded; whole files are kept, so try again"):
            fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)
        monkeypatch.undo()
        repository.breaks = 0
        repository.files["model.safetensors"] = files["model.safetensors"]
        hub.requests.clear()
        fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)
        assert hub.fetched() == {"model.safetensors"}


def _impatient(http_get: object) -> object:
    """``http_get`` that gives up at the first break."""

    def get(*arguments: object, **options: object) -> object:
        return http_get(*arguments, **{**options, "_nb_retries": 0})  # type: ignore[operator]

    return get


def test_offline_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_hub({NAME: Repository(tiny_files())}) as hub:
        folder = fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        hub.requests.clear()
        assert fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path) == folder
        assert not hub.requests
        with pytest.raises(HubError, match="someone/else is not wholly in the cache, and HF_HUB_OFFLINE"):
            fetch_repository("someone/else", endpoint=hub.address, cache_folder=tmp_path)


def test_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    with serve_hub({NAME: Repository(tiny_files())}) as hub:
        folder = fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)
    assert fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path) == folder
    with pytest.raises(
        HubError, match=r"http.* cannot be reached, and someone/else is not wholly in the cache"
    ):
        fetch_repository("someone/else", endpoint=hub.address, cache_folder=tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"model.Q4_0.gguf": b"x"},
            r"holds no config.json, but GGUF files: name one of them, such as someone/tiny:model.Q4_0.gguf$",
        ),
        ({"config.json": b"{}", "model.onnx": b"x"}, r"holds no model.safetensors.*, only .onnx files"),
        (
            {"config.json": b"{}"},
            r"holds no model.safetensors, no model.safetensors.index.json and no pytorch_model.bin; a",
        ),
    ],
)
def test_repository_without_a_model_to_take_in(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with serve_hub({NAME: Repository(files)}) as hub, pytest.raises(HubError, match=message):
        fetch_repository(NAME, endpoint=hub.address, cache_folder=tmp_path)


def test_load_model_by_hub_id_follows_the_environment(tmp_path: Path) -> None:
    script = (
        "import json, sys; from ingot.frontend import load_model; model = load_model(sys.argv[1]);"
        "print(json.dumps([model.name, model.config.hidden_size, model.folder.name]))"
    )
    with serve_hub({NAME: Repository(tiny_files(), token="hf_good", branches=("main", "v2"))}) as hub:
        environment = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_good"}
        result = subprocess.run(
            [sys.executable, "-c", script, f"{NAME}@v2"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == ["tiny", 48, "c" * 40]
