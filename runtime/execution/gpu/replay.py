"""Launches of a plan over arrays whose addresses are known, for any numbers that a batch's symbols have."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ....ir.errors import ArtifactError
from ....targets.launch_plan import Argument, Launch
from .device import Device, Function, KernelLaunch

__all__ = ["Addresses", "Replay"]

Addresses = Mapping[tuple[str, str], int]
"""Of arrays, by the kind and the name that arguments have."""

MOST_RECORDINGS = 128
"""Recordings that are kept; of more, the one not used for longest goes."""

MOST_SEEN = 1024
"""Batches that are remembered as having come once."""

_Key = tuple[tuple[str, int], ...]


class Replay:
    """Launches the same kernels again and again.

    Those of symbols that come a second time are recorded, and replayed from then on. For those that do not,
    what launches have in common is found once a batch.
    """

    def __init__(
        self,
        device: Device,
        functions: Mapping[str, Function],
        launches: Sequence[Launch],
        addresses: Addresses,
    ) -> None:
        """Raises :class:`ArtifactError` where an array is not there."""
        self._device = device
        self._seen: OrderedDict[_Key, None] = OrderedDict()
        self._recorded: OrderedDict[_Key, Callable[[], None]] = OrderedDict()
        for argument in _arguments(launches):
            if argument.kind != "symbol" and (argument.kind, argument.name) not in addresses:
                raise ArtifactError(f"the plan wants the {argument.kind} {argument.name}, which there is not")
        self._sizes = tuple({size for launch in launches for size in launch.grid})
        self._bounds = tuple({launch.bounds for launch in launches})
        sizes = {size: number for number, size in enumerate(self._sizes)}
        bounds = {bound: number for number, bound in enumerate(self._bounds)}
        self._ready = [
            _Ready(
                launch,
                functions[launch.kernel],
                bounds[launch.bounds],
                (sizes[launch.grid[0]], sizes[launch.grid[1]], sizes[launch.grid[2]]),
                tuple(addresses.get((one.kind, one.name), 0) for one in launch.arguments),
                tuple((at, one.name) for at, one in enumerate(launch.arguments) if one.kind == "symbol"),
            )
            for launch in launches
        ]

    def run(self, symbols: Mapping[str, int]) -> None:
        """Launch for a batch whose symbols are these."""
        key = tuple(sorted(symbols.items()))
        if key in self._recorded:
            self._recorded.move_to_end(key)
            self._recorded[key]()
        elif key in self._seen:
            del self._seen[key]
            if len(self._recorded) == MOST_RECORDINGS:
                self._recorded.popitem(last=False)
            self._recorded[key] = self._device.record([given for _, given in self.resolved(symbols)])
            self._recorded[key]()
        else:
            self._seen[key] = None
            if len(self._seen) > MOST_SEEN:
                self._seen.popitem(last=False)
            self._device.launch([given for _, given in self.resolved(symbols)])

    def resolved(self, symbols: Mapping[str, int]) -> list[tuple[Launch, KernelLaunch]]:
        """The launches for a batch whose symbols are these, as planned and as the device takes them."""
        sizes = [size.value(symbols) for size in self._sizes]
        holds = [all(bound.holds(symbols) for bound in bounds) for bounds in self._bounds]
        numbers = {name: np.int32(number) for name, number in symbols.items()}
        return [(ready.launch, ready.given(sizes, numbers)) for ready in self._ready if holds[ready.bounds]]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A launch of which only a batch's numbers are missing.

    Attributes:
        launch: as it was planned.
        function: its kernel.
        bounds: the number of its bounds.
        grid: the numbers of its sizes.
        arguments: addresses, and 0 for symbols.
        symbols: where these are among the arguments, and their names.
    """

    launch: Launch
    function: Function
    bounds: int
    grid: tuple[int, int, int]
    arguments: tuple[int, ...]
    symbols: tuple[tuple[int, str], ...]

    def given(self, sizes: Sequence[int], numbers: Mapping[str, np.int32]) -> KernelLaunch:
        """As the device takes it."""
        arguments: tuple[int | np.int32, ...] = self.arguments
        if self.symbols:
            filled: list[int | np.int32] = list(arguments)
            for at, name in self.symbols:
                filled[at] = numbers[name]
            arguments = tuple(filled)
        x, y, z = self.grid
        grid = sizes[x], sizes[y], sizes[z]
        return KernelLaunch(self.function, grid, self.launch.threads, arguments, self.launch.shared_bytes)


def _arguments(launches: Iterable[Launch]) -> Iterable[Argument]:
    for launch in launches:
        yield from launch.arguments
