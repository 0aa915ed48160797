"""Launches of a plan over arrays whose addresses are known, for any numbers that a batch's symbols have."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ....ir.errors import ArtifactError
from ....targets.launch_plan import Argument, Launch
from .device import Device, Function, KernelLaunch

__all__ = ["Addresses", "Replay"]

Addresses = Mapping[tuple[str, str], int]
"""Of arrays, by the kind and the name that arguments have."""

MOST_RECORDINGS = 256
"""Recordings that are kept; of more, the one not used for longest goes."""

_Key = tuple[tuple[str, int], ...]


class Replay:
    """Launches the same kernels again and again.

    Those of symbols that come a second time are recorded, and replayed from then on.
    """

    def __init__(
        self,
        device: Device,
        functions: Mapping[str, Function],
        launches: Sequence[Launch],
        addresses: Addresses,
    ) -> None:
        """Raises :class:`ArtifactError` where an array is not there."""
        self._device, self._functions, self._launches, self._addresses = (
            device,
            functions,
            launches,
            addresses,
        )
        self._seen: set[_Key] = set()
        self._recorded: OrderedDict[_Key, Callable[[], None]] = OrderedDict()
        for argument in _arguments(launches):
            if argument.kind != "symbol" and (argument.kind, argument.name) not in addresses:
                raise ArtifactError(f"the plan wants the {argument.kind} {argument.name}, which there is not")

    def run(self, symbols: Mapping[str, int], *, is_recorded: bool = True) -> None:
        """Launch for a batch whose symbols are these; ``is_recorded``: they are likely to come again."""
        key = tuple(sorted(symbols.items()))
        if key in self._recorded:
            self._recorded.move_to_end(key)
            self._recorded[key]()
        elif is_recorded and key in self._seen:
            self._seen.discard(key)
            if len(self._recorded) == MOST_RECORDINGS:
                self._recorded.popitem(last=False)
            self._recorded[key] = self._device.record([given for _, given in self.resolved(symbols)])
            self._recorded[key]()
        else:
            self._seen.add(key)
            self._device.launch([given for _, given in self.resolved(symbols)])

    def resolved(self, symbols: Mapping[str, int]) -> list[tuple[Launch, KernelLaunch]]:
        """The launches for a batch whose symbols are these, as planned and as the device takes them."""
        return [
            (launch, self._given(launch, symbols))
            for launch in self._launches
            if all(bound.holds(symbols) for bound in launch.bounds)
        ]

    def _given(self, launch: Launch, symbols: Mapping[str, int]) -> KernelLaunch:
        return KernelLaunch(
            self._functions[launch.kernel],
            (launch.grid[0].value(symbols), launch.grid[1].value(symbols), launch.grid[2].value(symbols)),
            launch.threads,
            tuple(self._value(argument, symbols) for argument in launch.arguments),
            launch.shared_bytes,
        )

    def _value(self, argument: Argument, symbols: Mapping[str, int]) -> int | np.int32:
        if argument.kind == "symbol":
            return np.int32(symbols[argument.name])
        return self._addresses[argument.kind, argument.name]


def _arguments(launches: Iterable[Launch]) -> Iterable[Argument]:
    for launch in launches:
        yield from launch.arguments
