"""Gives vectors on a GPU, by a plan of launches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ....targets.launch_plan import read_plan
from ....targets.manifest import LibraryRecord
from ...scheduling.vectors import VectorInput
from ..artifact import Artifact
from ..memory_plan import plan_memory
from ..model_executor import ModelVectorExecutor
from ..vector_batch import describe_inputs
from .device import Device
from .loading import KEPT_BYTES, load_kernels, place_parameters
from .plan_runner import PlanRunner, num_work_bytes

__all__ = ["GpuVectorExecutor"]


class GpuVectorExecutor(ModelVectorExecutor):
    """A :class:`~ingot.runtime.scheduling.vectors.VectorExecutor` over an artifact's plan for a GPU."""

    def __init__(
        self, artifact: Artifact, library: LibraryRecord, device: Device, *, max_num_batched_tokens: int
    ) -> None:
        """Load kernels and weights.

        Args:
            artifact: what to run.
            library: the plan in it.
            device: where.
            max_num_batched_tokens: most tokens in a step; a longer sequence has one of its own.

        Raises:
            ArtifactError: the artifact's kernels are for other GPUs, or altered.
            CapacityError: the device's memory does not suffice.
        """
        super().__init__(artifact)
        device.enter()
        plan = read_plan(artifact.folder / library.path)
        tokens = max(max_num_batched_tokens, self.max_seq_len)
        most = {"tokens": tokens, "sequences": tokens, "rows": tokens}
        plan_memory(
            artifact.manifest,
            kv_memory=None,
            max_num_seqs=1,
            max_num_batched_tokens=max_num_batched_tokens,
            available_bytes=device.memory_bytes()[0] - KEPT_BYTES,
            activation_bytes=num_work_bytes(plan, most),
        )
        sizes = {**most, "sequence_bounds": tokens + 1}
        inputs = {
            record.name: math.prod(sizes[dim] if isinstance(dim, str) else dim for dim in record.shape)
            for record in artifact.manifest.inputs
        }
        self._device = device
        self._runner = PlanRunner(
            plan,
            device,
            load_kernels(artifact, library, plan, device),
            parameters=place_parameters(artifact, device),
            states={},
            most=most,
            inputs=inputs,
            vocab_size=self.width,
        )

    def embed(self, inputs: Sequence[VectorInput]) -> npt.NDArray[np.float32]:
        """See :meth:`VectorExecutor.embed`."""
        self._device.enter()
        batch, count = describe_inputs(inputs), len(inputs)
        num_tokens = len(batch["token_ids"])
        return self._runner.run(batch, {"tokens": num_tokens, "sequences": count, "rows": count})

    def close(self) -> None:
        """Let go of the weights."""
        self._device.close()
