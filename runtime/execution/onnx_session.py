"""ONNX Runtime, and a graph of an artifact loaded into it; the ``onnx`` package is not needed for that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ...ir.errors import ArtifactError
from ...targets.threads import use_all_cores

__all__ = ["DEVICES", "OnnxSession", "has_onnx_runtime"]

DEVICES: Mapping[str, str] = {
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""What ONNX Runtime calls the ways to run on a device; what one cannot do the processor does."""

_UNASKED = ("cuda", "cpu")
"""The devices that are taken, the first there is, where nobody names one."""

_QUIET = 3
"""The severity of logging that lets errors through alone."""


def has_onnx_runtime() -> bool:
    """Whether ONNX Runtime is installed; it is not imported."""
    return find_spec("onnxruntime") is not None


class OnnxSession:
    """A graph ready to run, on ``device`` of :data:`DEVICES`; ``auto`` is a CUDA device or the processor.

    Raises :class:`ArtifactError` where ONNX Runtime is missing, has no such device, or refuses the graph.
    """

    def __init__(self, model: Path, device: str = "auto") -> None:
        self._runtime = _import_runtime()
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = use_all_cores()
        options.log_severity_level = _QUIET
        # Steps are of all sizes: memory planned for one would be of no use to the next.
        options.enable_mem_pattern = False
        providers = _providers(self._runtime, device)
        with _refusing(model):
            self._session = self._runtime.InferenceSession(str(model), options, providers=providers)
        self.device = next(name for name, provider in DEVICES.items() if provider == providers[0])
        self._binding = self._session.io_binding()

    def keep(self, name: str, output: str, array: npt.NDArray[np.generic]) -> None:
        """Let the graph read ``name`` from ``array`` and write ``output`` to it, in every run."""
        value = self._runtime.OrtValue.ortvalue_from_numpy(array)
        self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(output, value)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the graph's outputs."""
        return tuple(output.name for output in self._session.get_outputs())

    def run(
        self, inputs: Mapping[str, npt.NDArray[np.generic]], output: str, into: npt.NDArray[np.float32]
    ) -> None:
        """Run the graph; ``output`` is written to ``into``, which has its shape.

        Raises :class:`ArtifactError` where the graph cannot run.
        """
        values = {name: self._runtime.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        for name, value in values.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(output, self._runtime.OrtValue.ortvalue_from_numpy(into))
        with _refusing(output):
            self._session.run_with_iobinding(self._binding)


def _import_runtime() -> ModuleType:
    if not has_onnx_runtime():
        raise ArtifactError(
            "this artifact runs on ONNX Runtime, which is not installed: pip install '.[onnx]' in ingot's "
            "repository brings it"
        )
    import onnxruntime

    return onnxruntime  # type: ignore[no-any-return]


def _providers(runtime: ModuleType, device: str) -> list[str]:
    """What runs the graph, the processor last."""
    available = set(runtime.get_available_providers())
    known = {name: provider for name, provider in DEVICES.items() if provider in available}
    if device != "auto" and device not in known:
        there = ", ".join(known)
        raise ArtifactError(f"ONNX Runtime has no device '{device}' here; it has {there}")
    chosen = next(name for name in _UNASKED if name in known) if device == "auto" else device
    return list(dict.fromkeys([DEVICES[chosen], DEVICES["cpu"]]))


@contextmanager
def _refusing(what: Any) -> Iterator[None]:
    """Raise ONNX Runtime's own exceptions as :class:`ArtifactError`: they share no other class."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(f"ONNX Runtime cannot run {what}: {reason}") from error
