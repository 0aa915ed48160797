"""Runs steps with a graph on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...targets.manifest import LibraryRecord
from ..scheduling.step import Step, StepOutput
from .artifact import Artifact
from .batch import describe_batch
from .memory import empty_pages
from .memory_plan import plan_memory
from .model_executor import HostPages, ModelExecutor
from .onnx_runs import split_step
from .onnx_session import OnnxSession

__all__ = ["OnnxExecutor"]

_LOGITS = "logits"


class OnnxExecutor(ModelExecutor):
    """An :class:`~ingot.runtime.scheduling.step.Executor` over an artifact's graph.

    Pages are written in place: the same memory is bound to a cache's input and output. It is the machine's
    own; where the graph runs on another device, ONNX Runtime moves pages there and back in every run.
    """

    def __init__(
        self,
        artifact: Artifact,
        library: LibraryRecord,
        *,
        kv_memory: int | None,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        device: str = "auto",
    ) -> None:
        """Load the graph, its weights and pages.

        Args:
            artifact: what to run.
            library: the graph among its libraries.
            kv_memory: bytes for pages; None: enough for ``max_num_seqs`` of the longest sequences, or half of
                what all else leaves of the memory, if that is less.
            max_num_seqs: most sequences in a step.
            max_num_batched_tokens: most tokens in a step.
            device: one of :data:`.onnx_session.DEVICES`, or ``auto``.

        Raises:
            ArtifactError: the artifact is altered, or ONNX Runtime cannot run it.
            CapacityError: the memory does not suffice; see :func:`~.memory_plan.plan_memory`.
        """
        manifest = artifact.manifest
        plan = plan_memory(
            manifest,
            kv_memory=kv_memory,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
        )
        artifact.check()  # the runtime reads weights as soon as it loads a graph
        super().__init__(manifest, plan.num_pages)
        self._session = OnnxSession(artifact.folder / library.path, device)
        self._logits = empty_pages((max_num_batched_tokens, self.vocab_size), np.dtype(np.float32))
        self._pages = HostPages(manifest, plan.num_pages)
        written = (name for name in self._session.outputs if name != _LOGITS)
        for state, output, pages in zip(manifest.states, written, self._pages.arrays, strict=True):
            self._session.keep(state.name, output, pages)
        self._has_slots = any(".slots" in state.name for state in manifest.states)

    def run(self, step: Step) -> StepOutput:
        """See :meth:`Executor.run`."""
        self._pages.copy(step.page_copies)
        runs = split_step(step, self.page_size, within_pages=self._has_slots)
        done = 0
        places: list[int] = []
        for one in runs:
            batch = describe_batch(one.step, self.page_size)
            inputs: dict[str, npt.NDArray[np.generic]] = {
                record.name: batch[record.name] for record in self._manifest.inputs
            }
            count = len(one.rows)
            # Where nobody wants a row one is computed all the same, and written over by the next.
            into = self._logits[done : done + max(1, count)]
            self._session.run(inputs, _LOGITS, into)
            done += count
            places.extend(one.rows)
        logits = self._logits[:done]
        if places != list(range(done)):
            logits = logits[np.argsort(places)]
        return StepOutput(logits)

    def close(self) -> None:
        """Let go of weights and pages."""
        del self._session
        self._pages.close()
