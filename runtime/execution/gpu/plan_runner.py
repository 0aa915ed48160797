"""A plan on a device: memory for what its steps take, compute and give, and their launches over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ....targets.launch_plan import Launch, LaunchGroup, LaunchPlan
from .arena import aligned, place_buffers
from .device import Device, Function, KernelLaunch
from .replay import Replay
from .sent_arrays import SentArrays
from .token_chooser import DeviceTokenChooser

__all__ = ["PlanRunner", "num_work_bytes"]


class PlanRunner:
    """Runs steps, and chooses tokens of the logits they leave on the device.

    Args:
        plan: what to launch.
        device: where.
        functions: the plan's kernels by name.
        parameters: addresses by name.
        states: addresses by name.
        most: the largest number of each symbol that a batch will have, for the memory of what is computed.
        inputs: names of the batch's arrays, and how many numbers each has at most.
        vocab_size: the width of the logits.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        device: Device,
        functions: Mapping[str, Function],
        *,
        parameters: Mapping[str, int],
        states: Mapping[str, int],
        most: Mapping[str, int],
        inputs: Mapping[str, int],
        vocab_size: int,
    ) -> None:
        self._device, self._vocab_size = device, vocab_size
        # No token is chosen before the step is computed: all launches use the same memory on their way.
        arena = device.allocate(num_work_bytes(plan, most))
        self._logits = device.allocate(4 * most["rows"] * vocab_size)
        self._inputs = SentArrays(device, {name: 4 * count for name, count in inputs.items()})
        known = {("logits", "logits"): self._logits}
        known |= {("input", name): address for name, address in self._inputs.addresses.items()}
        known |= {("parameter", name): address for name, address in parameters.items()}
        known |= {("state", name): address for name, address in states.items()}

        def replay(group: LaunchGroup, further: Mapping[tuple[str, str], int]) -> Replay:
            offsets, _ = place_buffers(group.buffers, most)
            own = {("buffer", name): arena + offset for name, offset in offsets.items()}
            return Replay(device, functions, group.launches, {**known, **further, **own})

        self._step = replay(plan.groups[0], {})
        self.chooser: DeviceTokenChooser | None = None
        if plan.choice is not None:
            self.chooser = DeviceTokenChooser(
                device, plan.choice, replay, vocab_size=vocab_size, most_lines=most["lines"]
            )

    def run(
        self, batch: Mapping[str, npt.NDArray[np.int32]], symbols: Mapping[str, int]
    ) -> npt.NDArray[np.float32]:
        """The logits ``[rows, vocab_size]`` of a batch."""
        self.start(batch, symbols)
        return self.logits(range(symbols["rows"]))

    def start(self, batch: Mapping[str, npt.NDArray[np.int32]], symbols: Mapping[str, int]) -> None:
        """Begin to compute the logits of a batch; this returns before they are there."""
        self._inputs.send(batch)
        self._step.run(symbols)

    def launches(self, symbols: Mapping[str, int]) -> list[tuple[Launch, KernelLaunch]]:
        """The step's launches for a batch of these symbols, as planned and as the device takes them."""
        return self._step.resolved(symbols)

    def logits(self, rows: Sequence[int]) -> npt.NDArray[np.float32]:
        """Rows of the last batch's logits, float32 ``[rows, vocab_size]``, once they are there."""
        logits = np.empty((len(rows), self._vocab_size), np.float32)
        start = 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or rows[end] != rows[end - 1] + 1:
                address = self._logits + 4 * self._vocab_size * rows[start]
                self._device.read(address, logits[start:end])
                start = end
        return logits


def num_work_bytes(plan: LaunchPlan, most: Mapping[str, int]) -> int:
    """What a plan's launches compute on their way, in bytes."""
    return aligned(max(place_buffers(group.buffers, most)[1] for group in plan.groups))
