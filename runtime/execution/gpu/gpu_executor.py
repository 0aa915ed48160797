"""Runs steps on a GPU, by a plan of launches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....ir.errors import ArtifactError
from ....targets.launch_plan import LaunchPlan, read_plan
from ....targets.manifest import LibraryRecord
from ...scheduling.step import Step, StepOutput
from ..artifact import Artifact
from ..batch import describe_batch
from ..memory_plan import plan_memory
from ..model_executor import ModelExecutor
from .device import Device
from .plan_runner import PlanRunner

__all__ = ["GpuExecutor"]

_ITEM_BYTES = {"float32": 4, "float16": 2, "uint16": 2, "int8": 1, "uint8": 1}


class GpuExecutor(ModelExecutor):
    """An :class:`~ingot.runtime.scheduling.step.Executor` over an artifact's plan for a GPU.

    Weights are copied to the device from their mapped file, the pages of keys and values lie there.
    """

    def __init__(
        self,
        artifact: Artifact,
        library: LibraryRecord,
        device: Device,
        *,
        kv_memory: int | None,
        max_num_seqs: int,
        max_num_batched_tokens: int,
    ) -> None:
        """Load kernels, weights and pages.

        Args:
            artifact: what to run.
            library: the plan in it.
            device: where.
            kv_memory: bytes for pages; None: enough for ``max_num_seqs`` of the longest sequences, or half of
                what weights leave of the device's memory, if that is less.
            max_num_seqs: most sequences in a step.
            max_num_batched_tokens: most tokens in a step.

        Raises:
            ArtifactError: the artifact's kernels are for other GPUs, or altered.
            CapacityError: the device's memory does not suffice.
        """
        manifest = artifact.manifest
        device.enter()
        memory = plan_memory(
            manifest,
            kv_memory=kv_memory,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            available_bytes=device.memory_bytes()[0],
        )
        super().__init__(manifest, memory.num_pages)
        self._device = device
        plan = read_plan(artifact.folder / library.path)
        records = {
            f"{parameter.name}#{number}": record
            for parameter in manifest.parameters
            for number, record in enumerate(parameter.arrays)
        }
        placed = device.place(artifact.arrays, tuple(records.values()))
        parameters = dict(zip(records, placed, strict=True))
        artifact.check()
        self._page_bytes = {
            state.name: math.prod(int(dim) for dim in state.shape[1:]) * _ITEM_BYTES[state.dtype]
            for state in plan.states
        }
        self._states = {
            name: device.allocate(size * self._num_pages) for name, size in self._page_bytes.items()
        }
        self._table_width = -(-memory.max_seq_len // self.page_size)
        self._piece_size = plan.piece_size
        most = {
            "tokens": max_num_batched_tokens,
            "rows": max_num_batched_tokens,
            "sequences": max_num_seqs,
            "pages_per_sequence": self._table_width,
            "pieces": -(-memory.max_seq_len // plan.piece_size),
        }
        sizes = {**most, "sequence_bounds": max_num_seqs + 1}
        inputs = {
            record.name: math.prod(sizes[dim] if isinstance(dim, str) else dim for dim in record.shape)
            for record in manifest.inputs
        }
        self._runner = PlanRunner(
            plan,
            device,
            device.load(
                _module(artifact.folder, library, plan, device),
                sorted({one.kernel for one in plan.launches}),
            ),
            parameters=parameters,
            states=self._states,
            most=most,
            inputs=inputs,
            vocab_size=self.vocab_size,
        )

    def run(self, step: Step) -> StepOutput:
        """See :meth:`Executor.run`."""
        self._device.enter()
        for copy in step.page_copies:
            for name, num_bytes in self._page_bytes.items():
                pages = self._states[name]
                self._device.copy(pages + copy.target * num_bytes, pages + copy.source * num_bytes, num_bytes)
        batch = dict(describe_batch(step, self.page_size))
        batch["page_table"] = _widened(batch["page_table"], self._table_width)
        logits = self._runner.run(batch, self._symbols(batch))
        return StepOutput(logits[: step.num_logit_rows])

    def _symbols(self, batch: Mapping[str, npt.NDArray[np.int32]]) -> dict[str, int]:
        return {
            "tokens": len(batch["token_ids"]),
            "rows": len(batch["logit_rows"]),
            "sequences": len(batch["context_lengths"]),
            "pages_per_sequence": self._table_width,
            "pieces": -(-int(batch["context_lengths"].max()) // self._piece_size),
        }

    def close(self) -> None:
        """Let go of weights and pages."""
        self._device.close()


def _widened(table: npt.NDArray[np.int32], width: int) -> npt.NDArray[np.int32]:
    """A page table with rows of ``width``, whatever a batch's sequences have: recordings are made with it."""
    wide = np.zeros((len(table), width), np.int32)
    wide[:, : table.shape[1]] = table
    return wide


def _module(folder: Path, library: LibraryRecord, plan: LaunchPlan, device: Device) -> Path:
    """The file for this device: machine code of its own architecture, or else what its driver compiles."""
    for name in plan.modules:
        if device.takes(name):
            return folder / Path(library.path).parent / name
    raise ArtifactError(f"{folder} has kernels in {', '.join(plan.modules)}, and none for {device.name}")
