"""Which device a graph runs on, told by stand-ins for ONNX Runtime's packages and their devices."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from ingot.ir.errors import ArtifactError
from ingot.runtime.execution import onnx_session
from ingot.runtime.execution.onnx_session import OnnxSession, choose_device
from ingot.targets.devices import PROVIDERS


class StandIn(SimpleNamespace):
    """An ``onnxruntime`` that is built for some devices, and can use some of these."""

    def __init__(self, built_for: Sequence[str], can_use: Sequence[str]) -> None:
        self.opened: list[tuple[str, ...]] = []
        super().__init__(
            SessionOptions=SimpleNamespace,
            InferenceSession=self._open,
            preload_dlls=lambda: None,
            get_available_providers=lambda: [PROVIDERS[name] for name in built_for],
        )
        self._can_use = [PROVIDERS[name] for name in can_use]

    def _open(
        self,
        model: str,
        options: object,
        *,
        providers: list[tuple[str, dict[str, str]]],
        enable_fallback: int,
    ) -> SimpleNamespace:
        assert not enable_fallback
        wanted = [name for name, _ in providers]
        self.opened.append(tuple(wanted))
        used = [name for name in wanted if name in self._can_use]
        return SimpleNamespace(get_providers=lambda: used, io_binding=SimpleNamespace)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The machine's NVIDIA GPUs, none unless a test puts one there."""
    there: list[str] = []
    monkeypatch.setattr(onnx_session, "find_gpus", lambda: tuple(there))
    monkeypatch.setattr(onnx_session, "has_onnx_runtime", lambda: True)
    return there


def _install(monkeypatch: pytest.MonkeyPatch, built_for: Sequence[str], can_use: Sequence[str]) -> StandIn:
    runtime = StandIn(built_for, can_use)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)  # type: ignore[misc]
    return runtime


def test_unasked_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    _install(monkeypatch, ("cuda", "webgpu", "cpu"), ())
    assert choose_device("auto") == "cpu"
    gpus.append("a GPU")
    assert choose_device("auto") == "cuda"
    _install(monkeypatch, ("coreml", "cpu"), ())
    assert choose_device("auto") == "cpu"


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda", r"has no device 'cuda' here; it has cpu: onnxruntime-gpu .*\.\[cuda\]"),
        ("coreml", "has no device 'coreml' here; it has cpu: onnxruntime for macOS"),
        ("webgpu", "has no device 'webgpu' here; it has cpu: onnxruntime-webgpu"),
    ],
)
@pytest.mark.usefixtures("gpus")
def test_a_device_that_is_missing_is_refused_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, device: str, said: str
) -> None:
    runtime = _install(monkeypatch, ("cpu",), ("cpu",))
    with pytest.raises(ArtifactError, match=said):
        OnnxSession(Path("step.onnx"), device)
    assert not runtime.opened


@pytest.mark.parametrize("device", ["cuda", "coreml", "webgpu", "cpu"])
@pytest.mark.usefixtures("gpus")
def test_what_a_device_cannot_do_the_processor_does(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    runtime = _install(monkeypatch, PROVIDERS.keys(), PROVIDERS.keys())
    assert OnnxSession(Path("step.onnx"), device).device == device
    assert runtime.opened == [tuple(dict.fromkeys((PROVIDERS[device], PROVIDERS["cpu"])))]


@pytest.mark.usefixtures("gpus")
def test_a_device_that_is_built_for_and_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ("cuda", "cpu"), ("cpu",))
    with pytest.raises(
        ArtifactError,
        match=r"is built for cuda and cannot use it here: .* onnxruntime-gpu\[cuda,cudnn\] brings",
    ):
        OnnxSession(Path("step.onnx"), "cuda")
