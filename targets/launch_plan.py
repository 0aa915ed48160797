"""What a step is on a GPU: launches of kernels, as data that the compiler writes and the runtime replays.

Everything that a step's batch decides is a *size*: a whole number times the batch's symbols. So neither
kernels nor plan are made again while a model runs, and whoever can launch a kernel can run a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from ..ir.errors import ArtifactError

__all__ = [
    "PLAN_SCHEMA",
    "Argument",
    "Bound",
    "Launch",
    "LaunchGroup",
    "LaunchPlan",
    "PlannedBuffer",
    "Probe",
    "Size",
    "StateShape",
    "TokenChoice",
    "read_plan",
    "write_plan",
]

PLAN_SCHEMA = 2
"""The schema that this version writes and reads."""


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frozen, and strict about what it does not know."""


class Size(_Record, frozen=True):
    """``times`` and the symbols multiplied, over ``over``, rounded up; and ``plus`` and ``more``."""

    times: int = 1
    symbols: tuple[str, ...] = ()
    over: int = 1
    plus: tuple[str, ...] = ()
    more: int = 0

    def value(self, symbols: Mapping[str, int]) -> int:
        """The number, for a batch whose symbols are these."""
        product = self.times * math.prod(symbols[name] for name in self.symbols)
        return -(-product // self.over) + sum(symbols[name] for name in self.plus) + self.more


class PlannedBuffer(_Record, frozen=True):
    """An array for the launches from ``first`` to ``last``; before and after, its bytes can be another's."""

    name: str
    num_bytes: Size
    first: int
    last: int


class Argument(_Record, frozen=True):
    """A kernel's argument: a pointer to an array by name, or a symbol's number (int32).

    A parameter's array is named by the parameter and its number among that one's arrays, ``NAME#0``. What
    choosing tokens takes and gives is a ``choice``: ``choices``, ``masks``, ``edits`` and ``chosen``.
    """

    kind: Literal["input", "logits", "state", "parameter", "buffer", "symbol", "choice"]
    name: str


class Bound(_Record, frozen=True):
    """A launch is for batches whose ``symbol`` lies within."""

    symbol: str
    at_least: int = 0
    at_most: int | None = None

    def holds(self, symbols: Mapping[str, int]) -> bool:
        """Whether it is for a batch whose symbols are these."""
        number = symbols[self.symbol]
        return number >= self.at_least and (self.at_most is None or number <= self.at_most)


class Launch(_Record, frozen=True):
    """One kernel, over a grid of blocks of ``threads``.

    Each block takes ``shared_bytes`` of shared memory, or what the device has of them: it asks how many.
    """

    kernel: str
    grid: tuple[Size, Size, Size]
    threads: int
    arguments: tuple[Argument, ...]
    bounds: tuple[Bound, ...] = ()
    shared_bytes: int = 0


class StateShape(_Record, frozen=True):
    """An array that is kept between steps; ``pages`` is symbolic."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


class LaunchGroup(_Record, frozen=True):
    """Launches in order, and the arrays that they compute on their way."""

    buffers: tuple[PlannedBuffer, ...]
    launches: tuple[Launch, ...]


class TokenChoice(_Record, frozen=True):
    """Choosing tokens of the step's logits, a line for each; symbols are ``lines``, and ``edits``, which is
    0 where no line edits its logits.

    Attributes:
        likeliest: for lines that take the likeliest token and nothing else.
        drawn: for any lines.
    """

    likeliest: LaunchGroup
    drawn: LaunchGroup


class Probe(_Record, frozen=True):
    """What measures a limit of the device: launches that do nothing else, and how much they do.

    Attributes:
        name: ``copy``, ``bfloat16``, ``float32`` or ``int8``.
        group: the launches.
        amount: bytes read and written, or operations, two a product.
    """

    name: str
    group: LaunchGroup
    amount: Size


class LaunchPlan(_Record, frozen=True):
    """A step.

    Attributes:
        schema: of this file.
        modules: files with the kernels' machine code, the best first; one is loaded.
        piece_size: keys of a context that a block of attention takes where contexts are cut: the symbol
            ``pieces`` is how many the longest context of a batch has.
        states: arrays kept between steps.
        buffers: what the step computes on its way.
        launches: in order.
        choice: how tokens are chosen on the device; None: they are not.
        probes: by which a benchmark measures the device's limits.
    """

    schema: int
    modules: tuple[str, ...]
    piece_size: int
    states: tuple[StateShape, ...]
    buffers: tuple[PlannedBuffer, ...]
    launches: tuple[Launch, ...]
    choice: TokenChoice | None = None
    probes: tuple[Probe, ...] = ()

    @property
    def groups(self) -> tuple[LaunchGroup, ...]:
        """The step's launches, and then those for its tokens."""
        step = LaunchGroup(self.buffers, self.launches)
        return (step,) if self.choice is None else (step, self.choice.likeliest, self.choice.drawn)


def read_plan(path: Path) -> LaunchPlan:
    """The plan in a file; raises :class:`ArtifactError` where it cannot be read, or is of another schema."""
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=LaunchPlan)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ArtifactError(f"{path} is not a launch plan that this ingot reads: {error}") from None
    if plan.schema != PLAN_SCHEMA:
        raise ArtifactError(f"{path} has schema {plan.schema}, this ingot reads {PLAN_SCHEMA}: compile again")
    return plan


def write_plan(path: Path, plan: LaunchPlan) -> None:
    """Write a plan; the same plan gives the same bytes."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plan, order="sorted"), indent=1) + b"\n")
