"""Replays a plan of launches: knows where each array lies on the device, and what a batch's symbols are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ....ir.errors import ArtifactError
from ....targets.launch_plan import Argument, LaunchPlan, PlannedBuffer
from .device import Device, Function, KernelLaunch

__all__ = ["PlanRunner", "place_buffers"]

ALIGNMENT = 256
"""Of every array, in bytes."""

MOST_REPLAYED_TOKENS = 64
"""Steps of more tokens take so long that launching their kernels one by one costs nothing."""

MOST_RECORDINGS = 64
"""Recordings that are kept; of more, the one not used for longest goes."""


class PlanRunner:
    """A plan on a device.

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
        self._plan, self._device, self._functions = plan, device, functions
        self._vocab_size = vocab_size
        self._seen: set[tuple[tuple[str, int], ...]] = set()
        self._recorded: OrderedDict[tuple[tuple[str, int], ...], Callable[[], None]] = OrderedDict()
        offsets, num_bytes = place_buffers(plan.buffers, most)
        self._arena = device.allocate(max(num_bytes, ALIGNMENT))
        self._inputs = {name: device.allocate(4 * max(count, 1)) for name, count in inputs.items()}
        self._logits = device.allocate(4 * most["rows"] * vocab_size)
        self._addresses: dict[tuple[str, str], int] = {("logits", "logits"): self._logits}
        for kind, known in (("parameter", parameters), ("state", states), ("input", self._inputs)):
            self._addresses.update({(kind, name): address for name, address in known.items()})
        self._addresses.update({("buffer", name): self._arena + offset for name, offset in offsets.items()})
        for launch in plan.launches:
            for argument in launch.arguments:
                if argument.kind != "symbol" and (argument.kind, argument.name) not in self._addresses:
                    raise ArtifactError(
                        f"the plan wants the {argument.kind} {argument.name}, which there is not"
                    )

    def run(
        self, batch: Mapping[str, npt.NDArray[np.int32]], symbols: Mapping[str, int]
    ) -> npt.NDArray[np.float32]:
        """The logits ``[rows, vocabulary]`` of a batch.

        Launches of small batches, whose symbols come again and again, are recorded the second time and
        replayed from then on.
        """
        for name, address in self._inputs.items():
            self._device.write(address, np.ascontiguousarray(batch[name]))
        self._launch(tuple(sorted(symbols.items())), symbols)
        logits = np.empty((symbols["rows"], self._vocab_size), np.float32)
        self._device.read(self._logits, logits)
        return logits

    def _launch(self, key: tuple[tuple[str, int], ...], symbols: Mapping[str, int]) -> None:
        if symbols["tokens"] > MOST_REPLAYED_TOKENS:
            self._device.launch(self._launches(symbols))
            return
        if key in self._recorded:
            self._recorded.move_to_end(key)
            self._recorded[key]()
            return
        if key in self._seen:
            self._recorded[key] = self._device.record(self._launches(symbols))
            self._seen.discard(key)
            if len(self._recorded) > MOST_RECORDINGS:
                self._recorded.popitem(last=False)
            self._recorded[key]()
            return
        self._seen.add(key)
        self._device.launch(self._launches(symbols))

    def _launches(self, symbols: Mapping[str, int]) -> list[KernelLaunch]:
        """The plan's launches for a batch whose symbols are these."""
        return [
            KernelLaunch(
                self._functions[launch.kernel],
                (launch.grid[0].value(symbols), launch.grid[1].value(symbols), launch.grid[2].value(symbols)),
                launch.threads,
                tuple(self._value(argument, symbols) for argument in launch.arguments),
            )
            for launch in self._plan.launches
            if all(bound.holds(symbols) for bound in launch.bounds)
        ]

    def _value(self, argument: Argument, symbols: Mapping[str, int]) -> int | np.int32:
        if argument.kind == "symbol":
            return np.int32(symbols[argument.name])
        return self._addresses[argument.kind, argument.name]


def place_buffers(buffers: Sequence[PlannedBuffer], most: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """An offset for each buffer so that those that live at the same time do not overlap, and the end of all.

    Largest first, each at the lowest offset that is free while it lives (Pisarchyk and Lee, 2020).
    """
    placed: list[tuple[int, int, PlannedBuffer]] = []
    offsets: dict[str, int] = {}
    sizes = {buffer.name: _aligned(buffer.num_bytes.value(most)) for buffer in buffers}
    for buffer in sorted(buffers, key=lambda buffer: (-sizes[buffer.name], buffer.first, buffer.name)):
        offset = 0
        for start, end, other in sorted(placed, key=lambda entry: entry[0]):
            lives_then = buffer.first <= other.last and other.first <= buffer.last
            if lives_then and offset + sizes[buffer.name] > start and end > offset:
                offset = end
        offsets[buffer.name] = offset
        placed.append((offset, offset + sizes[buffer.name], buffer))
    return offsets, max((end for _, end, _ in placed), default=0)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT
