"""Runs steps with a graph on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...targets import find_gpus
from ...targets.manifest import LibraryRecord
from ..scheduling.step import Step, StepOutput
from .artifact import Artifact
from .batch import describe_batch
from .memory import empty_pages
from .memory_plan import plan_memory
from .model_executor import ModelExecutor
from .onnx_pages import keep_pages
from .onnx_runs import split_step
from .onnx_session import OnnxSession, choose_device

__all__ = ["OnnxExecutor"]

_LOGITS = "logits"


class OnnxExecutor(ModelExecutor):
    """An :class:`~ingot.runtime.scheduling.step.Executor` over an artifact's graph.

    Pages are written in place: the same memory is bound to a cache's input and output, wherever the graph
    reads it.
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
            device: one of those that ONNX Runtime knows, or ``auto``.

        Raises:
            ArtifactError: the artifact is altered, or ONNX Runtime cannot run it.
            CapacityError: the memory does not suffice; see :func:`~.memory_plan.plan_memory`.
        """
        manifest = artifact.manifest
        device = choose_device(device)
        gpus = find_gpus() if device == "cuda" else ()
        plan = plan_memory(
            manifest,
            kv_memory=kv_memory,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            available_bytes=gpus[0].memory_bytes if gpus else None,
        )
        artifact.check()  # the runtime reads weights as soon as it loads a graph
        super().__init__(manifest, plan.num_pages)
        self._session = OnnxSession(artifact.folder / library.path, device)
        self._logits = empty_pages((max_num_batched_tokens, self.vocab_size), np.dtype(np.float32))
        written = [name for name in self._session.outputs if name != _LOGITS]
        self._pages = keep_pages(self._session, artifact.folder, manifest, plan.num_pages, written)
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
        self._session.close()
        self._pages.close()
