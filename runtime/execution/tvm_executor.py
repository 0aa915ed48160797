"""Runs steps with machine code that TVM made."""

from __future__ import annotations

import numpy as np

from ..scheduling.step import Step, StepOutput
from .artifact import Artifact
from .batch import describe_batch
from .input_buffers import InputBuffers
from .memory import empty_pages
from .memory_plan import plan_memory
from .model_executor import HostPages, ModelExecutor
from .tvm_library import open_step, shared
from .weights import Weights

__all__ = ["TvmExecutor"]


class TvmExecutor(ModelExecutor):
    """An :class:`~ingot.runtime.scheduling.step.Executor` over an artifact's library for this machine.

    The pages of keys and values are memory of zeros that the system gives out as they are first written.
    """

    def __init__(
        self, artifact: Artifact, *, kv_memory: int | None, max_num_seqs: int, max_num_batched_tokens: int
    ) -> None:
        """Load library, weights and pages.

        Args:
            artifact: what to run.
            kv_memory: bytes for pages; None: enough for ``max_num_seqs`` of the longest sequences, or half of
                what all else leaves of the memory, if that is less.
            max_num_seqs: most sequences in a step.
            max_num_batched_tokens: most tokens in a step.

        Raises:
            ArtifactError: the artifact is for another machine, or altered.
            CapacityError: the memory does not suffice; see :func:`~.memory_plan.plan_memory`.
        """
        manifest = artifact.manifest
        plan = plan_memory(
            manifest,
            kv_memory=kv_memory,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
        )
        library = artifact.folder / artifact.library(device="cpu").path
        super().__init__(manifest, plan.num_pages)
        self._step = open_step(library)
        self._inputs = InputBuffers(manifest.inputs)
        self._logits = empty_pages((max_num_batched_tokens, self.vocab_size), np.dtype(np.float32))
        self._weights = Weights(artifact.arrays, manifest, plan)
        self._pages = HostPages(manifest, plan.num_pages)
        self._states = [shared(pages) for pages in self._pages.arrays]
        artifact.check()

    @property
    def is_settling(self) -> bool:
        """Whether weights are being moved to where they are read faster; that begins with the first step."""
        return self._weights.is_settling

    def run(self, step: Step) -> StepOutput:
        """See :meth:`Executor.run`."""
        self._pages.copy(step.page_copies)
        batch = describe_batch(step, self.page_size)
        logits = self._logits[: len(batch["logit_rows"])]
        inputs = self._inputs.fill(batch)
        self._step(*inputs, shared(logits), *self._states, *self._weights.tensors)
        self._weights.settle()  # not before the first token
        return StepOutput(logits[: step.num_logit_rows])

    def close(self) -> None:
        """Let go of weights and pages."""
        self._pages.close()
        self._states = []
        self._weights.close()
