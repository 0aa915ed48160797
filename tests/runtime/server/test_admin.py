"""Models that come and go while the server runs."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from ingot.ir.errors import ArtifactError
from ingot.runtime.engine import base_engine
from ingot.runtime.engine.loading import Loaded
from ingot.runtime.server import EngineOptions, ModelLoader, ServedModels, ServerOptions

from .alphabet_model import AlphabetExecutor, load_alphabet, make_engine, write_alphabet
from .conftest import Served, running

# weights, 256 pages of 1600 bytes, 512 rows of 257 logits, 512 tokens' activations
PLAN = {"weights": 1000, "kv_pages": 65 * 1600, "logits": 526_336, "activations": 5120, "total": 636_456}


class Disk:
    """Stands for loading: as slow and as faulty as a test asks, and it knows what it has loaded."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.executors: list[weakref.ref[AlphabetExecutor]] = []
        self.asked: list[dict[str, Any]] = []

    def load(self, folder: Path, **asked: Any) -> Loaded:
        self.asked.append(asked)
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        loaded = load_alphabet(name=folder.stem, step_seconds=0.005)
        assert isinstance(loaded.executor, AlphabetExecutor)
        self.executors.append(weakref.ref(loaded.executor))
        return loaded


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(base_engine, "load", made.load)
    return made


@pytest.fixture
def artifact(tmp_path: Path) -> str:
    return str(write_alphabet(tmp_path / "letters.ingot"))


@pytest.fixture
def served(disk: Disk) -> Iterator[Served]:
    """One model, and memory for two and a half of the others."""
    loader = ModelLoader(
        EngineOptions(kv_memory=65 * 1600), compile_model=None, available=PLAN["total"] * 5 // 2
    )
    first = make_engine("first", step_seconds=0.005)
    models = ServedModels({"first": first}, loader=loader)
    with running({"first": first}, models=models, options=ServerOptions(enable_admin=True)) as started:
        yield started
        asyncio.run(models.close())


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=20) as client:
        yield client


def load(http: httpx.Client, name: str, path: str) -> httpx.Response:
    return http.post("/admin/models", json={"name": name, "path": path})


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


def names(http: httpx.Client) -> list[str]:
    return [model["id"] for model in http.get("/v1/models").json()["data"]]


def test_without_leave_there_is_no_administration() -> None:
    with running({"alphabet": make_engine("alphabet")}) as started:
        assert httpx.get(f"{started.url}/admin/models").status_code == 404
        assert "/admin/models" not in httpx.get(f"{started.url}/openapi.json").json()["paths"]


def test_a_model_is_loaded_answers_and_is_unloaded(http: httpx.Client, disk: Disk, artifact: str) -> None:
    answer = load(http, "org/second", artifact)
    assert answer.status_code == 201
    described = answer.json()
    assert described == {
        "name": "org/second",
        "state": "ready",
        "path": artifact,
        "max_model_len": 1024,
        "requests": 0,
        "memory": PLAN,
        "pages": {"free": 256, "used": 0, "cached": 0},
    }
    # The pages that were planned are the pages that are asked for.
    assert disk.asked[0]["kv_memory"] == PLAN["kv_pages"]
    assert names(http) == ["first", "org/second"]
    body = {"model": "org/second", "prompt": "x"}
    assert http.post("/v1/completions", json=body).json()["choices"][0]["text"] == "yz"
    metrics = http.get("/metrics").text
    assert 'vllm:request_success_total{finished_reason="stop",model_name="org/second"} 1.0' in metrics
    assert f'ingot_memory_plan_bytes{{model="org/second",part="weights"}} {PLAN["weights"]}' in metrics
    listed = http.get("/admin/models").json()
    assert [model["name"] for model in listed["models"]] == ["first", "org/second"]
    assert (listed["models"][0]["memory"], listed["planned_bytes"]) == (None, PLAN["total"])

    gone = http.delete("/admin/models/org/second")
    assert (gone.status_code, gone.json()) == (200, {"name": "org/second", "finished": True})
    assert names(http) == ["first"]
    assert http.post("/v1/completions", json=body).status_code == 404
    deadline = time.monotonic() + 5
    while disk.executors[0]() is not None:
        gc.collect()
        assert time.monotonic() < deadline, "the unloaded model still holds its memory"
    assert 'ingot_requests{model="org/second"}' not in http.get("/metrics").text


def test_others_are_answered_while_a_model_loads(http: httpx.Client, disk: Disk, artifact: str) -> None:
    disk.gate.clear()
    with ThreadPoolExecutor() as pool:
        loading = pool.submit(load, http, "second", artifact)
        while not disk.asked:
            time.sleep(0.002)
        body = {"model": "first", "prompt": "x"}
        assert http.post("/v1/completions", json=body).json()["choices"][0]["text"] == "yz"
        states = {model["name"]: model["state"] for model in http.get("/admin/models").json()["models"]}
        assert states == {"first": "ready", "second": "loading"}
        assert http.post("/v1/completions", json=body | {"model": "second"}).status_code == 404
        assert http.delete("/admin/models/second").status_code == 404
        # Name and memory are taken from now on, not only once it is there.
        assert load(http, "second", artifact).status_code == 409
        disk.gate.set()
        assert loading.result().status_code == 201
    assert names(http) == ["first", "second"]


def test_unloading_lets_what_runs_finish(http: httpx.Client, served: Served) -> None:
    with ThreadPoolExecutor() as pool:
        body = {"model": "first", "prompt": "0", "max_tokens": 60}
        answering = pool.submit(httpx.post, f"{served.url}/v1/completions", json=body)
        while served.engines["first"].stats.num_running == 0:
            time.sleep(0.002)
        leaving = pool.submit(http.delete, "/admin/models/first")
        while names(http):
            time.sleep(0.002)
        assert http.get("/admin/models").json()["models"][0]["state"] == "unloading"
        assert load(http, "first", "anywhere").status_code == 409
        refused = http.post("/v1/completions", json=body)
        assert (refused.status_code, error_of(refused)["code"]) == (404, "model_not_found")
        assert answering.result().json()["choices"][0]["text"] == "1234567890" * 6
        assert leaving.result().json() == {"name": "first", "finished": True}
    assert http.get("/health").status_code == 200


def test_unloading_waits_no_longer_than_it_is_told(http: httpx.Client, served: Served) -> None:
    with ThreadPoolExecutor() as pool:
        body = {"model": "first", "prompt": "0", "max_tokens": 1000}
        answering = pool.submit(httpx.post, f"{served.url}/v1/completions", json=body)
        while served.engines["first"].stats.num_running == 0:
            time.sleep(0.002)
        started = time.monotonic()
        gone = http.delete("/admin/models/first", params={"drain_timeout": 0.05})
        assert gone.json() == {"name": "first", "finished": False}
        assert time.monotonic() - started < 2
        refused = answering.result()
        assert (refused.status_code, error_of(refused)["code"]) == (503, "aborted")


def test_what_does_not_fit_beside_the_others_is_refused(http: httpx.Client, artifact: str) -> None:
    assert [load(http, name, artifact).status_code for name in ("a", "b", "c")] == [201, 201, 400]
    refused = error_of(load(http, "c", artifact))
    assert refused["code"] == "insufficient_memory"
    assert "letters does not fit: weights take 1000 B" in refused["message"]
    assert "310.8 KiB can be had" in refused["message"]
    # What leaves makes room.
    assert http.delete("/admin/models/a").status_code == 200
    assert load(http, "c", artifact).status_code == 201


@pytest.mark.parametrize(
    ("body", "status", "param", "said"),
    [
        ({"name": "x", "path": "nowhere"}, 400, "path", "nowhere is not an artifact"),
        ({"name": "x", "path": "a\0b"}, 400, "path", "printable"),
        ({"name": "x", "path": "a" * 4000}, 400, "path", "a"),
        ({"name": "x\n", "path": "nowhere"}, 400, "name", "printable"),
        ({"name": "", "path": "nowhere"}, 400, "name", "at least 1"),
        ({"name": "first", "path": "nowhere"}, 409, "name", "'first' is here already"),
        ({"name": "x"}, 400, "path", "required"),
        ({"name": "x", "path": "nowhere", "force": True}, 400, "force", "not supported"),
    ],
)
def test_what_cannot_be_loaded_is_a_sentence(
    http: httpx.Client, body: dict[str, str], status: int, param: str, said: str
) -> None:
    answer = http.post("/admin/models", json=body)
    error = error_of(answer)
    assert (answer.status_code, error["param"]) == (status, param)
    assert said in error["message"]


def test_a_manifest_that_is_none(http: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    answer = load(http, "x", str(tmp_path))
    assert (answer.status_code, error_of(answer)["param"]) == (400, "path")


def test_a_model_that_fails_to_load_leaves_nothing_behind(
    http: httpx.Client, disk: Disk, artifact: str
) -> None:
    disk.error = ArtifactError("weights.bin was altered")
    refused = load(http, "second", artifact)
    assert (refused.status_code, error_of(refused)["message"]) == (400, "weights.bin was altered")
    assert [model["name"] for model in http.get("/admin/models").json()["models"]] == ["first"]
    disk.error = None
    assert load(http, "second", artifact).status_code == 201


def test_unloading_what_is_not_there(http: httpx.Client) -> None:
    answer = http.delete("/admin/models/nobody")
    assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")
    assert "served: first" in error_of(answer)["message"]
    wrong = http.delete("/admin/models/first", params={"drain_timeout": -1})
    assert (wrong.status_code, error_of(wrong)["param"]) == (400, "drain_timeout")
    assert http.delete("/admin/models/first", params={"drain_timeout": "soon"}).status_code == 400


def test_a_server_without_models_says_so(http: httpx.Client) -> None:
    http.delete("/admin/models/first")
    assert names(http) == []
    answer = http.post("/tokenize", json={"prompt": "x"})
    assert (answer.status_code, error_of(answer)["message"]) == (400, "model is required; served: nothing")
