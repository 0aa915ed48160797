"""Runs steps on a GPU, by a plan of launches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ....targets import Manifest
from ....targets.launch_plan import LaunchPlan, read_plan
from ....targets.manifest import LibraryRecord
from ...scheduling.choosing import TokenChooser
from ...scheduling.step import Step, StepOutput
from ..artifact import Artifact
from ..batch import describe_tokens
from ..memory_plan import GPU_KV_SHARE, plan_memory
from ..model_executor import ModelExecutor
from .device import Device
from .loading import KEPT_BYTES, load_kernels, place_parameters
from .page_table import PageTable
from .plan_runner import PlanRunner, num_work_bytes
from .token_chooser import num_choice_bytes

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
            kv_memory: bytes for pages; None: enough for ``max_num_seqs`` of the longest sequences, or nine
                tenths of what all else leaves of the device's memory, if that is less.
            max_num_seqs: most sequences in a step.
            max_num_batched_tokens: most tokens in a step.

        Raises:
            ArtifactError: the artifact's kernels are for other GPUs, or altered.
            CapacityError: the device's memory does not suffice.
        """
        manifest = artifact.manifest
        device.enter()
        self._free_before = device.memory_bytes()[0]
        plan = read_plan(artifact.folder / library.path)
        # With the longest sequence that the model takes: what fits is known only when this is.
        most = _most(manifest, plan, max_num_seqs, max_num_batched_tokens, manifest.model.max_seq_len)
        memory = plan_memory(
            manifest,
            kv_memory=kv_memory,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            available_bytes=self._free_before - KEPT_BYTES,
            activation_bytes=num_work_bytes(plan, most)
            + num_choice_bytes(manifest.model.vocab_size, max_num_seqs),
            kv_share=GPU_KV_SHARE,
        )
        super().__init__(manifest, memory.num_pages)
        self._device, self._piece_size = device, plan.piece_size
        parameters = place_parameters(artifact, device)
        self._page_bytes = {
            state.name: math.prod(int(dim) for dim in state.shape[1:]) * _ITEM_BYTES[state.dtype]
            for state in plan.states
        }
        self._states = {
            name: device.allocate(size * self._num_pages) for name, size in self._page_bytes.items()
        }
        self._most = _most(manifest, plan, max_num_seqs, max_num_batched_tokens, memory.max_seq_len)
        self._page_table = PageTable(max_num_seqs, self._most["pages_per_sequence"])
        sizes = {**self._most, "sequence_bounds": max_num_seqs + 1}
        inputs = {
            record.name: math.prod(sizes[dim] if isinstance(dim, str) else dim for dim in record.shape)
            for record in manifest.inputs
        }
        self._runner = PlanRunner(
            plan,
            device,
            load_kernels(artifact, library, plan, device),
            parameters=parameters,
            states=self._states,
            most=self._most,
            inputs=inputs,
            vocab_size=self.vocab_size,
        )

    @property
    def num_device_bytes(self) -> int:
        """The device's memory that this takes."""
        return self._free_before - self._device.memory_bytes()[0]

    def run(self, step: Step) -> StepOutput:
        """See :meth:`Executor.run`; this returns as soon as all is launched."""
        self._device.enter()
        for copy in step.page_copies:
            for name, num_bytes in self._page_bytes.items():
                pages = self._states[name]
                self._device.copy(pages + copy.target * num_bytes, pages + copy.source * num_bytes, num_bytes)
        table = self._page_table.fill(step.chunks)
        batch = {**describe_tokens(step, self.page_size), "page_table": table}
        self._runner.start(batch, self._symbols(batch))
        return _Output(self._runner, step.num_logit_rows)

    def _symbols(self, batch: Mapping[str, npt.NDArray[np.int32]]) -> dict[str, int]:
        """The batch's numbers. Of a context's pieces there are so many that few numbers come: a power of two;
        blocks that find theirs empty end at once.
        """
        pieces = -(-int(batch["context_lengths"].max()) // self._piece_size)
        return {
            "tokens": len(batch["token_ids"]),
            "rows": len(batch["logit_rows"]),
            "sequences": len(batch["context_lengths"]),
            "pages_per_sequence": self._most["pages_per_sequence"],
            "pieces": min(1 << (pieces - 1).bit_length(), self._most["pieces"]),
        }

    def close(self) -> None:
        """Let go of weights and pages."""
        self._device.close()


class _Output(StepOutput):
    """Logits that stay on the device until somebody asks for them."""

    def __init__(self, runner: PlanRunner, num_rows: int) -> None:
        self._runner, self._num_rows = runner, num_rows
        self._read: npt.NDArray[np.float32] | None = None

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """See :class:`StepOutput`; copied from the device when they are first asked for."""
        if self._read is None:
            self._read = self._runner.logits(range(self._num_rows))
        return self._read

    def rows(self, numbers: Sequence[int]) -> npt.NDArray[np.float32]:
        """See :class:`StepOutput`; only these are copied."""
        return self._runner.logits(numbers) if self._read is None else super().rows(numbers)

    @property
    def chooser(self) -> TokenChooser | None:
        """See :class:`StepOutput`."""
        return self._runner.chooser


def _most(
    manifest: Manifest, plan: LaunchPlan, max_num_seqs: int, max_num_batched_tokens: int, max_seq_len: int
) -> dict[str, int]:
    """The largest number of each symbol that a batch will have."""
    return {
        "tokens": max_num_batched_tokens,
        "rows": max_num_batched_tokens,
        "sequences": max_num_seqs,
        "pages_per_sequence": -(-max_seq_len // manifest.memory.page_size),
        "pieces": -(-max_seq_len // plan.piece_size),
        "lines": max_num_seqs,
    }
