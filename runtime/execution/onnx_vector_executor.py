"""Gives vectors with a graph on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...targets.manifest import LibraryRecord
from ..scheduling.vectors import VectorInput
from .artifact import Artifact
from .memory_plan import plan_memory
from .model_executor import ModelVectorExecutor
from .onnx_session import OnnxSession
from .vector_batch import describe_inputs

__all__ = ["OnnxVectorExecutor"]


class OnnxVectorExecutor(ModelVectorExecutor):
    """A :class:`~ingot.runtime.scheduling.vectors.VectorExecutor` over an artifact's graph.

    Sequences run in the order of their lengths, those together of which none is twice as long as another,
    because inside the graph they are filled up to the longest.
    """

    def __init__(
        self, artifact: Artifact, library: LibraryRecord, *, max_num_batched_tokens: int, device: str = "auto"
    ) -> None:
        """Load the graph and its weights.

        Args:
            artifact: what to run.
            library: the graph among its libraries.
            max_num_batched_tokens: most tokens in a step; a longer sequence has one of its own.
            device: one of those that ONNX Runtime knows, or ``auto``.

        Raises:
            ArtifactError: the artifact is altered, or ONNX Runtime cannot run it.
            CapacityError: the memory does not suffice; see :func:`~.memory_plan.plan_memory`.
        """
        manifest = artifact.manifest
        plan_memory(manifest, kv_memory=None, max_num_seqs=1, max_num_batched_tokens=max_num_batched_tokens)
        super().__init__(artifact)
        artifact.check()
        self._session = OnnxSession(artifact.folder / library.path, device)

    def embed(self, inputs: Sequence[VectorInput]) -> npt.NDArray[np.float32]:
        """See :meth:`VectorExecutor.embed`."""
        vectors = np.zeros((len(inputs), self.width), np.float32)
        order = sorted(range(len(inputs)), key=lambda place: len(inputs[place].token_ids))
        while order:
            shortest = len(inputs[order[0]].token_ids)
            together = [place for place in order if len(inputs[place].token_ids) <= 2 * shortest]
            order = order[len(together) :]
            batch = describe_inputs([inputs[place] for place in together])
            arrays: dict[str, npt.NDArray[np.generic]] = {
                record.name: batch[record.name] for record in self._manifest.inputs
            }
            found = np.zeros((len(together), self.width), np.float32)
            self._session.run(arrays, "vectors", found)
            vectors[together] = found
        return vectors

    def close(self) -> None:
        """Let go of the weights."""
        self._session.close()
