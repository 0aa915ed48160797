"""The kernels that a step calls: taken down as the step runs, and called again one by one to be timed.

While they are taken down the virtual machine tells of every instruction, which costs much more than small
kernels do; when they are called again nothing stands between one and the next but two looks at the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from ...targets.manifest import ENTRY
from ..execution.artifact import Artifact
from ..execution.tvm_executor import TvmExecutor
from ..execution.tvm_library import open_machine
from ..scheduling.step import Executor, Step

__all__ = ["KernelCall", "RecordingExecutor", "RecordingTvmExecutor", "wait_until_settled"]

_OF_THE_MACHINE = "vm."
"""What the names of the machine's own functions begin with."""


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One call of a kernel.

    Attributes:
        kernel: the kernel's name in the library.
        known: names in the manifest of the inputs, states and parameters that it is given, and ``logits``.
        num_other_bytes: of all else that it is given: activations, read or written.
        run: calls it again with the same arguments.
    """

    kernel: str
    known: tuple[str, ...]
    num_other_bytes: int
    run: Callable[[], object]


class RecordingExecutor(Executor, Protocol):
    """An executor that can tell which kernels a step calls, and how long they take."""

    def record(self, step: Step) -> list[KernelCall]:
        """Run a step and take its calls down, in order."""
        ...

    def time(self, calls: Sequence[KernelCall]) -> list[float]:
        """Make the calls of the last step that was recorded once more, in order; seconds of each."""
        ...

    def run_whole(self, step: Step) -> None:
        """Run a step, and return when it is computed."""
        ...


class RecordingTvmExecutor(TvmExecutor):
    """An executor that can tell which kernels a step called."""

    def __init__(
        self, artifact: Artifact, *, kv_memory: int, max_num_seqs: int, max_num_batched_tokens: int
    ) -> None:
        """As :class:`TvmExecutor`."""
        super().__init__(
            artifact,
            kv_memory=kv_memory,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
        )
        manifest = artifact.manifest
        self._argument_names = [
            *(record.name for record in manifest.inputs),
            "logits",
            *(record.name for record in manifest.states),
            *(parameter.name for parameter in manifest.parameters for _ in parameter.arrays),
        ]
        for pages in self._pages.arrays:
            pages.fill(0)  # memory that was never written is one page of zeros, which lies in a cache
        self._recording_machine = open_machine(artifact.folder / artifact.library(device="cpu").path)

    def record(self, step: Step) -> list[KernelCall]:
        """Run a step and take its calls down, in order."""
        self.run(step)
        wait_until_settled(self)
        entry, calls = self._step, _Recorder(self._argument_names)
        self._recording_machine["set_instrument"](calls.hear)
        recorded = self._recording_machine[ENTRY]

        def run(*arguments: Any) -> object:
            calls.learn(arguments)
            return recorded(*arguments)

        self._step = run
        try:
            self.run(step)
        finally:
            self._step = entry
        return calls.calls

    def time(self, calls: Sequence[KernelCall]) -> list[float]:
        """See :class:`RecordingExecutor`."""
        return list(_time_calls(calls))

    def run_whole(self, step: Step) -> None:
        """See :class:`RecordingExecutor`."""
        self.run(step)


class _Recorder:
    """Hears of every instruction of a virtual machine."""

    def __init__(self, argument_names: Sequence[str]) -> None:
        self._argument_names = argument_names
        self._names: dict[int, str] = {}
        self.calls: list[KernelCall] = []

    def learn(self, arguments: Sequence[Any]) -> None:
        """Know the step's arguments again by where they lie."""
        self._names = {
            argument.data_ptr(): name for name, argument in zip(self._argument_names, arguments, strict=True)
        }

    def hear(self, function: Any, name: str, is_before: bool, result: object, *arguments: Any) -> int:
        """What the machine calls before and after each instruction; 0 lets it go on."""
        if is_before and not name.startswith(_OF_THE_MACHINE):
            tensors = [argument for argument in arguments if hasattr(argument, "data_ptr")]
            known = [self._names.get(tensor.data_ptr()) for tensor in tensors]
            other = sum(
                _num_bytes(tensor) for tensor, found in zip(tensors, known, strict=True) if found is None
            )
            self.calls.append(
                KernelCall(str(name), tuple(filter(None, known)), other, lambda: function(*arguments))
            )
        return 0


def _num_bytes(tensor: Any) -> int:
    return prod(map(int, tensor.shape)) * np.dtype(str(tensor.dtype)).itemsize


def wait_until_settled(executor: object) -> None:
    """Wait until an executor that has run a step has its weights where they stay."""
    while isinstance(executor, TvmExecutor) and executor.is_settling:
        time.sleep(0.01)


def _time_calls(calls: Sequence[KernelCall]) -> Iterator[float]:
    """Call each again, in order, and give the seconds it took."""
    for call in calls:
        run = call.run
        started = time.perf_counter()
        run()
        yield time.perf_counter() - started
