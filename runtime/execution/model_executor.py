"""What executors have in common, whatever runs the model: what its manifest says, and pages in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...ir.errors import ArtifactError
from ...targets import Manifest
from ..scheduling.step import PageCopy
from .artifact import Artifact
from .memory import empty_pages

__all__ = ["HostPages", "ModelExecutor", "ModelVectorExecutor"]


class _FromManifest:
    """What a manifest says of the model that is run."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    @property
    def vocab_size(self) -> int:
        """The width of the logits; valid token ids are below it."""
        return self._manifest.model.vocab_size

    @property
    def max_seq_len(self) -> int:
        """The longest sequence the model was compiled for."""
        return self._manifest.model.max_seq_len


class ModelExecutor(_FromManifest):
    """The base of executors of models that generate."""

    def __init__(self, manifest: Manifest, num_pages: int) -> None:
        super().__init__(manifest)
        self._num_pages = num_pages

    @property
    def page_size(self) -> int:
        """Positions a page holds."""
        return self._manifest.memory.page_size

    @property
    def num_pages(self) -> int:
        """Pages there are."""
        return self._num_pages


class ModelVectorExecutor(_FromManifest):
    """The base of executors of models that give vectors.

    Raises :class:`ArtifactError` where the artifact does not say what these are.
    """

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact.manifest)
        if artifact.manifest.model.vectors is None:
            raise ArtifactError(f"{artifact.folder} does not say what its vectors are")
        self._vectors = artifact.manifest.model.vectors

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self._vectors.width


class HostPages:
    """The states of a model in the machine's own memory: zeros that are given out as they are written."""

    def __init__(self, manifest: Manifest, num_pages: int) -> None:
        self.arrays: list[npt.NDArray[np.generic]] = [
            empty_pages(
                tuple(num_pages if dim == "pages" else int(dim) for dim in state.shape), np.dtype(state.dtype)
            )
            for state in manifest.states
        ]

    def copy(self, copies: Sequence[PageCopy]) -> None:
        """Copy whole pages, in order."""
        for copy in copies:
            for array in self.arrays:
                array[copy.target] = array[copy.source]

    def close(self) -> None:
        """Let go of them."""
        self.arrays = []
