"""The kernels that a step launches on an NVIDIA GPU, timed there one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ...targets.launch_plan import Launch, read_plan
from ...targets.manifest import LibraryRecord
from ..execution.artifact import Artifact
from ..execution.gpu.cuda_driver import open_gpu
from ..execution.gpu.device import KernelLaunch
from ..execution.gpu.gpu_executor import GpuExecutor
from ..scheduling.step import Step
from .step_calls import KernelCall

__all__ = ["RecordingGpuExecutor"]


class RecordingGpuExecutor(GpuExecutor):
    """A :class:`~.step_calls.RecordingExecutor`. What lies between two launches counts for the first."""

    def __init__(
        self,
        artifact: Artifact,
        library: LibraryRecord,
        *,
        kv_memory: int,
        max_num_seqs: int,
        max_num_batched_tokens: int,
    ) -> None:
        """As :class:`GpuExecutor`, on the first GPU that runs the library."""
        self._cuda = open_gpu(library)
        super().__init__(
            artifact,
            library,
            self._cuda,
            kv_memory=kv_memory,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
        )
        plan = read_plan(artifact.folder / library.path)
        self._sizes = {buffer.name: buffer.num_bytes for buffer in plan.buffers}
        self._last_symbols: dict[str, int] = {}
        self._last_launches: list[KernelLaunch] = []

    def record(self, step: Step) -> list[KernelCall]:
        """Run a step and take its launches down, in order."""
        self.run_whole(step)
        launches = self._runner.launches(self._last_symbols)
        self._last_launches = [given for _, given in launches]
        return [self._call(launch, given) for launch, given in launches]

    def time(self, calls: Sequence[KernelCall]) -> list[float]:
        """Launch what was recorded last once more, in order; seconds of each."""
        return self._cuda.time(self._last_launches)

    def run_whole(self, step: Step) -> None:
        """Run a step, and return when it is computed."""
        self.run(step)
        self._cuda.synchronize()

    def _symbols(self, batch: Mapping[str, npt.NDArray[np.int32]]) -> dict[str, int]:
        self._last_symbols = super()._symbols(batch)
        return self._last_symbols

    def _call(self, launch: Launch, given: KernelLaunch) -> KernelCall:
        buffers = [argument.name for argument in launch.arguments if argument.kind == "buffer"]
        num_bytes = sum(self._sizes[name].value(self._last_symbols) for name in buffers)
        return KernelCall(launch.kernel, tuple(_known(launch)), num_bytes, lambda: self._cuda.launch([given]))


def _known(launch: Launch) -> Iterator[str]:
    """What the manifest calls the arrays that a launch is given."""
    for argument in launch.arguments:
        if argument.kind in ("input", "state", "logits"):
            yield argument.name
        elif argument.kind == "parameter":
            yield argument.name.rpartition("#")[0]
