"""Gives vectors with machine code that TVM made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..scheduling.vectors import VectorInput
from .artifact import Artifact
from .input_buffers import InputBuffers
from .memory import empty_pages
from .memory_plan import plan_memory
from .model_executor import ModelVectorExecutor
from .tvm_library import open_step, shared
from .vector_batch import describe_inputs
from .weights import Weights

__all__ = ["TvmVectorExecutor"]


class TvmVectorExecutor(ModelVectorExecutor):
    """A :class:`~ingot.runtime.scheduling.vectors.VectorExecutor` over an artifact's library."""

    def __init__(self, artifact: Artifact, *, max_num_batched_tokens: int) -> None:
        """Load library and weights.

        Args:
            artifact: what to run.
            max_num_batched_tokens: most tokens in a step; a longer sequence has one of its own.

        Raises:
            ArtifactError: the artifact is for another machine, or altered.
            CapacityError: the memory does not suffice; see :func:`~.memory_plan.plan_memory`.
        """
        manifest = artifact.manifest
        plan = plan_memory(
            manifest, kv_memory=None, max_num_seqs=1, max_num_batched_tokens=max_num_batched_tokens
        )
        super().__init__(artifact)
        self._step = open_step(artifact.folder / artifact.library(device="cpu").path)
        self._inputs = InputBuffers(manifest.inputs)
        self._weights = Weights(artifact.arrays, manifest, plan)
        artifact.check()

    def embed(self, inputs: Sequence[VectorInput]) -> npt.NDArray[np.float32]:
        """See :meth:`VectorExecutor.embed`."""
        vectors = empty_pages((len(inputs), self.width), np.dtype(np.float32))
        arrays = self._inputs.fill(describe_inputs(inputs))
        self._step(*arrays, shared(vectors), *self._weights.tensors)
        self._weights.settle()
        return vectors

    def close(self) -> None:
        """Let go of the weights."""
        self._weights.close()
