"""ONNX Runtime, and a graph of an artifact loaded into it; the ``onnx`` package is not needed for that."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...ir.errors import ArtifactError
from ...targets import find_gpus
from ...targets.devices import PROVIDERS
from ...targets.threads import use_all_cores

__all__ = ["OnnxSession", "Tensor", "choose_device", "has_onnx_runtime"]

_LOG = logging.getLogger(__name__)

Tensor: TypeAlias = Any
"""ONNX Runtime's ``OrtValue``: an array on whatever device, on which ONNX Runtime alone can work."""

_BRINGS: Mapping[str, str] = {
    "cuda": "onnxruntime-gpu in place of onnxruntime has it (pip install '.[cuda]' in ingot's repository)",
    "coreml": "onnxruntime for macOS has it",
    "webgpu": "onnxruntime-webgpu in place of onnxruntime has it",
}
"""The packages, all of which are ``onnxruntime`` to Python, so that only one of them can be installed."""

_NEEDS: Mapping[str, str] = {
    "cuda": "it needs NVIDIA's driver, and CUDA 13 and cuDNN 9, which onnxruntime-gpu[cuda,cudnn] brings",
    "coreml": "it needs macOS",
    "webgpu": "it needs a GPU with a driver for Vulkan, Metal or Direct3D 12",
}
"""What a build for a device asks of the machine."""

_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "cuda": {"arena_extend_strategy": "kSameAsRequested"},  # not twice the memory, which pages are to have
}

_HOST = "Cpu"
"""What ONNX Runtime calls the machine's own memory."""

_QUIET = 3
"""The severity of logging that lets errors through alone."""


def has_onnx_runtime() -> bool:
    """Whether ONNX Runtime is installed; it is not imported."""
    return find_spec("onnxruntime") is not None


class OnnxSession:
    """A graph ready to run on a device, as :func:`choose_device` has it.

    Raises :class:`ArtifactError` where ONNX Runtime is missing, cannot use the device, or refuses the graph.
    """

    def __init__(self, model: Path, device: str = "auto") -> None:
        self._runtime = _import_runtime()
        self.device = choose_device(device)
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = use_all_cores()
        options.log_severity_level = _QUIET
        # Steps are of all sizes: memory planned for one would be of no use to the next.
        options.enable_mem_pattern = False
        if self.device == "cuda":
            with redirect_stdout(sys.stderr):  # where it says what it did not find
                self._runtime.preload_dlls()
        provider = PROVIDERS[self.device]
        providers = {provider: _OPTIONS.get(self.device, {}), PROVIDERS["cpu"]: {}}
        with _refusing(model):
            # Without falling back, which ONNX Runtime tells on stdout and nobody else.
            self._session = self._runtime.InferenceSession(
                str(model), options, providers=list(providers.items()), enable_fallback=0
            )
        if provider not in self._session.get_providers():
            raise ArtifactError(
                f"ONNX Runtime is built for {self.device} and cannot use it here: {_NEEDS[self.device]}"
            )
        self._binding = self._session.io_binding()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the graph's outputs."""
        return tuple(output.name for output in self._session.get_outputs())

    def reads_on_device(self, name: str) -> bool:
        """Whether an input is read in a device's memory, not in the machine's own."""
        inputs = [found.name for found in self._session.get_inputs()]
        memory = self._session.get_input_memory_infos()[inputs.index(name)]
        return bool(memory.name != _HOST)

    def keep(self, name: str, output: str, tensor: Tensor) -> None:
        """Let the graph read ``name`` from ``tensor``, where it reads it, and write ``output`` to it."""
        self._binding.bind_ortvalue_input(name, tensor)
        self._binding.bind_ortvalue_output(output, tensor)

    def on_host(self, array: npt.NDArray[np.generic]) -> Tensor:
        """An array, as it lies in the machine's memory."""
        return self._runtime.OrtValue.ortvalue_from_numpy(array)

    def make(
        self, inputs: Mapping[str, npt.NDArray[np.generic]], on_device: Mapping[str, bool]
    ) -> Sequence[Tensor]:
        """Run the graph, and leave its outputs on the device or on the host, as is said of each.

        Raises :class:`ArtifactError` where the graph cannot run.
        """
        for output in self.outputs:
            self._binding.bind_output(output, self.device if on_device[output] else "cpu")
        self._run(inputs, "pages")
        tensors: Sequence[Tensor] = self._binding.get_outputs()
        return tensors

    def run(
        self, inputs: Mapping[str, npt.NDArray[np.generic]], output: str, into: npt.NDArray[np.float32]
    ) -> None:
        """Run the graph; ``output`` is written to ``into``, which has its shape.

        Raises :class:`ArtifactError` where the graph cannot run.
        """
        self._binding.bind_ortvalue_output(output, self.on_host(into))
        self._run(inputs, output)

    def run_in_place(self, inputs: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Run a graph all of whose outputs are kept; raises :class:`ArtifactError` where it cannot run."""
        self._run(inputs, "pages")

    def close(self) -> None:
        """Let go of what is bound, and then of the graph, in whose memory it may lie."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        del self._binding
        del self._session

    def _run(self, inputs: Mapping[str, npt.NDArray[np.generic]], what: str) -> None:
        tensors = {name: self.on_host(array) for name, array in inputs.items()}
        with _refusing(what):
            for name, tensor in tensors.items():
                self._binding.bind_ortvalue_input(name, tensor)
            self._session.run_with_iobinding(self._binding)


def _import_runtime() -> ModuleType:
    if not has_onnx_runtime():
        raise ArtifactError(
            "this artifact runs on ONNX Runtime, which is not installed: pip install '.[onnx]' in ingot's "
            "repository brings it"
        )
    import onnxruntime

    return onnxruntime  # type: ignore[no-any-return]


def choose_device(device: str) -> str:
    """The device to run on, of those that the installed ONNX Runtime is built for.

    ``auto`` is an NVIDIA GPU if there is one, else the processor.

    Raises :class:`ArtifactError` where ONNX Runtime is missing, or not built for the device.
    """
    available = set(_import_runtime().get_available_providers())
    known = [name for name, provider in PROVIDERS.items() if provider in available]
    if device == "auto":
        chosen = "cuda" if "cuda" in known and find_gpus() else "cpu"
        _LOG.info("ONNX Runtime is built for %s; taking %s", ", ".join(known), chosen)
        return chosen
    if device not in known:
        raise ArtifactError(
            f"ONNX Runtime has no device '{device}' here; it has {', '.join(known)}"
            + (f": {_BRINGS[device]}" if device in _BRINGS else "")
        )
    return device


@contextmanager
def _refusing(what: object) -> Iterator[None]:
    """Raise ONNX Runtime's own exceptions as :class:`ArtifactError`: they share no other class."""
    try:
        yield
    except Exception as error:
        is_its_own = type(error).__module__.startswith("onnxruntime") or isinstance(error, RuntimeError)
        if not is_its_own:
            raise
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(f"ONNX Runtime cannot run {what}: {reason}") from error
