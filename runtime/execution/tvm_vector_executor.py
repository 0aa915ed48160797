"""Gives vectors with machine code that TVM made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ...ir.errors import ArtifactError
from ...targets.manifest import VectorRecord
from ..scheduling.vectors import VectorInput
from .artifact import Artifact
from .memory import empty_pages
from .memory_plan import plan_memory
from .tvm_library import copied, open_step, shared
from .weights import Weights

__all__ = ["TvmVectorExecutor", "describe_inputs"]


class TvmVectorExecutor:
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
        if manifest.model.vectors is None:
            raise ArtifactError(f"{artifact.folder} does not say what its vectors are")
        self._manifest = manifest
        self._vectors: VectorRecord = manifest.model.vectors
        self._step = open_step(artifact.folder / artifact.library().path)
        self._weights = Weights(artifact.arrays, manifest, plan)
        artifact.check()

    @property
    def vocab_size(self) -> int:
        """Valid token ids are below it."""
        return self._manifest.model.vocab_size

    @property
    def max_seq_len(self) -> int:
        """The longest sequence the model was compiled for."""
        return self._manifest.model.max_seq_len

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self._vectors.width

    def embed(self, inputs: Sequence[VectorInput]) -> npt.NDArray[np.float32]:
        """See :meth:`VectorExecutor.embed`."""
        batch = describe_inputs(inputs)
        arrays = [copied(batch[record.name]) for record in self._manifest.inputs]
        vectors = empty_pages((len(inputs), self.width), np.dtype(np.float32))
        self._step(*arrays, shared(vectors), *self._weights.tensors)
        self._weights.settle()
        return vectors

    def close(self) -> None:
        """Let go of the weights."""
        self._weights.close()


def describe_inputs(inputs: Sequence[VectorInput]) -> Mapping[str, npt.NDArray[np.int32]]:
    """The inputs of a ragged module (see :mod:`ingot.ir.operators.embedding`) by name, all int32.

    ``token_ids``, ``positions`` and ``token_types`` ``[tokens]``, ``sequence_starts`` ``[sequences + 1]``,
    ``context_lengths`` ``[sequences]``.
    """
    lengths = np.array([len(one.token_ids) for one in inputs], np.int32)
    types = [one.token_types or (0,) * len(one.token_ids) for one in inputs]
    return {
        "token_ids": np.concatenate([np.array(one.token_ids, np.int32) for one in inputs]),
        "positions": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        "token_types": np.concatenate([np.array(one, np.int32) for one in types]),
        "sequence_starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        "context_lengths": lengths,
    }
