"""The pages of a model that ONNX Runtime runs: the machine's own memory, or that of the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ...ir.errors import ArtifactError
from ...targets import Manifest
from ...targets.onnx_files import COPIED_PAGES, NEW_PAGES
from ..scheduling.step import PageCopy
from .model_executor import HostPages
from .onnx_session import OnnxSession, Tensor

__all__ = ["DevicePages", "Pages", "keep_pages"]


class Pages(Protocol):
    """The states of a model."""

    def copy(self, copies: Sequence[PageCopy]) -> None:
        """Copy whole pages, in order."""

    def close(self) -> None:
        """Let go of them."""


def keep_pages(
    step: OnnxSession, folder: Path, manifest: Manifest, num_pages: int, written: list[str]
) -> Pages:
    """Make the states of a model, zeros, and let its graph read and write them in place.

    Args:
        step: the graph.
        folder: of the artifact.
        manifest: names the states.
        num_pages: how many pages there shall be.
        written: the graph's outputs that are the states as written, in the order of the manifest's.

    Raises:
        ArtifactError: ONNX Runtime cannot make them.
    """
    names = [state.name for state in manifest.states]
    outputs = dict(zip(names, written, strict=True))
    if any(step.reads_on_device(name) for name in names):
        return DevicePages(step, folder, outputs, num_pages)
    pages = HostPages(manifest, num_pages)
    for (name, output), array in zip(outputs.items(), pages.arrays, strict=True):
        step.keep(name, output, step.on_host(array))
    return pages


class DevicePages:
    """States that lie where the graph reads them: keys and values never cross the bus.

    Only ONNX Runtime reaches that memory, so that two more graphs make the states and copy their pages.
    """

    def __init__(self, step: OnnxSession, folder: Path, outputs: Mapping[str, str], num_pages: int) -> None:
        """``outputs`` says for each state where the step gives it as written."""
        for name in (NEW_PAGES, COPIED_PAGES):
            if not (folder / name).exists():
                raise ArtifactError(f"{folder} has no {name}, which {step.device} needs: compile it again")
        self._making = OnnxSession(folder / NEW_PAGES, step.device)  # whose memory the states stay
        self._copying = OnnxSession(folder / COPIED_PAGES, step.device)
        on_device = {name: step.reads_on_device(name) for name in outputs}
        count = {"num_pages": np.array([num_pages], np.int64)}
        tensors = self._making.make(count, on_device)
        self._tensors: dict[str, Tensor] = dict(zip(self._making.outputs, tensors, strict=True))
        for name, output in outputs.items():
            step.keep(name, output, self._tensors[name])

    def copy(self, copies: Sequence[PageCopy]) -> None:
        """Copy whole pages, in order."""
        for copy in copies:
            # Bound anew each time: what this graph would read elsewhere is brought there as it is bound.
            for (name, tensor), output in zip(self._tensors.items(), self._copying.outputs, strict=True):
                self._copying.keep(name, output, tensor)
            numbers = {"sources": copy.source, "targets": copy.target}
            self._copying.run_in_place({name: np.array([page], np.int64) for name, page in numbers.items()})

    def close(self) -> None:
        """Let go of them, and then of what gave them their memory."""
        self._copying.close()
        self._tensors = {}
        self._making.close()
