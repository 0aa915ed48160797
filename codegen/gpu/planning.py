"""The step that is being planned: the array behind each value, and the launches so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ...ir import Graph, Operation, Value
from ...ir.errors import CompileError
from ...targets.launch_plan import (
    PLAN_SCHEMA,
    Argument,
    Bound,
    Launch,
    LaunchGroup,
    LaunchPlan,
    PlannedBuffer,
    Size,
    StateShape,
)
from ..kernels.layout import Component, components
from ..kernels.rows import Rows
from ..lowering.layouts import parameter_layouts
from .kernel import DeviceFunction
from .machine import Machine
from .row_launch import RowLaunch

__all__ = ["ACTIVATIONS", "PIECE", "Codes", "Grouping", "Planning", "Region", "Rule", "row_type", "size_of"]

PIECE = 512
"""Keys of a context that one block of attention takes where contexts are cut."""

ACTIVATIONS = {"silu_mul": "Silu", "gelu_mul": "Gelu", "gelu_tanh_mul": "GeluTanh"}
"""What gates do to the first half of a row before they multiply it with the second."""

Rule: TypeAlias = "Callable[[Planning, Operation], None]"


@dataclass(frozen=True, slots=True)
class Region:
    """An activation float32: columns of an array, a row for each of the symbol ``rows``."""

    array: Argument
    rows: int | str
    view: Rows


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantized activation: codes int8 ``[rows, width]``, scales float32 ``[rows, width / group_size]``.

    Those of heads or experts have so many rows for each of the symbol ``rows``.
    """

    codes: Argument
    scales: Argument
    rows: int | str
    width: int
    group_size: int


@dataclass(frozen=True, slots=True)
class Grouping:
    """A step's pairs of tokens and experts in order, and the tiles they are cut into, see ``experts.h``."""

    order: Argument
    tiles: Argument
    num_tiles: Size


def row_type(view: Rows) -> str:
    """A view as the kernels' templates take it."""
    return f"Rows<{view.width}, {view.stride}, {view.offset}>"


def size_of(dim: int | str, times: int = 1, over: int = 1, plus: tuple[str, ...] = ()) -> Size:
    """``dim * times / over``, rounded up."""
    if isinstance(dim, int):
        return Size(dim * times, (), over, plus)
    return Size(times, (dim,), over, plus)


class Planning:
    """Walks a graph once, and plans launches on ``machine`` by ``rules``, one an operator."""

    def __init__(self, graph: Graph, machine: Machine, rules: Mapping[str, Rule]) -> None:
        self.graph, self.machine = graph, machine
        self._rules = rules
        self.regions: dict[Value, Region] = {}
        self.rounded: dict[Value, Codes] = {}
        self.float8: dict[Value, Codes] = {}
        """Rows that are there as floats, which were rounded, and as codes of floats of eight bits."""
        self.plain: dict[Value, Argument] = {}
        self.states: dict[Value, Argument] = {}
        self.groupings: dict[tuple[Value, int, int, bool], Grouping] = {}
        """Of who chose, among how many experts, with so many rows a tile, by position or by number."""
        self.caches: dict[Value, tuple[Argument, ...]] = {}
        """Pages of keys, or of values: floats, or codes and scales."""
        self.gated: dict[Value, Bound] = {}
        """Results of gates that are computed as products are, but within a bound."""
        self.unrounded: set[Value] = set()
        """Activations of bfloat16 whose arrays hold the floats that products will round."""
        self.tiled: dict[Hashable, tuple[Argument, ...]] = {}
        """Activations as a machine lays them out for products of its own."""
        self.numbers: dict[Value, float] = {}
        self.inlined: dict[Value, Operation] = {}
        self.stored: dict[Value, tuple[tuple[Component, Argument], ...]] = {}
        """Parameters with the arrays that store them."""
        self._functions: dict[tuple[tuple[str, ...], str, int], DeviceFunction] = {}
        self._num_functions = 0
        self._last_rows: Argument | None = None
        self._launches: list[Launch] = []
        self._rows: RowLaunch | None = None
        self._buffers: dict[str, tuple[Size, int, int]] = {}
        self._states: list[StateShape] = []

    def run(self, modules: tuple[str, ...]) -> tuple[LaunchPlan, tuple[DeviceFunction, ...]]:
        """The plan, and the kernels it launches."""
        for value in self.graph.inputs:
            self.plain[value] = Argument("input", value.name)
        for parameter, layout in parameter_layouts(self.graph).items():
            self.stored[parameter] = tuple(
                (part, Argument("parameter", f"{parameter.name}#{number}"))
                for number, part in enumerate(components(parameter.type, layout))
            )
        for operation in self.graph.operations:
            rule = self._rules.get(operation.operator)
            if rule is None:
                raise CompileError(
                    f"no kernel for operator {operation.operator} (%{operation.results[0].name}) "
                    f"on {self.machine}"
                )
            rule(self, operation)
        step = self.take_group()
        plan = LaunchPlan(PLAN_SCHEMA, modules, PIECE, tuple(self._states), step.buffers, step.launches)
        return plan, self.functions

    def take_group(self) -> LaunchGroup:
        """What was planned since this was last asked for."""
        self._launch_rows()
        buffers = tuple(
            PlannedBuffer(name, size, first, last) for name, (size, first, last) in self._buffers.items()
        )
        launches, self._launches, self._buffers = tuple(self._launches), [], {}
        return LaunchGroup(buffers, launches)

    def apart(self, plan: Callable[[Planning], None]) -> LaunchGroup:
        """What ``plan`` launches, apart from all else."""
        plan(self)
        return self.take_group()

    @property
    def functions(self) -> tuple[DeviceFunction, ...]:
        """The kernels launched so far."""
        return tuple(self._functions.values())

    @property
    def vocab_size(self) -> int:
        """The width of the logits."""
        return int(self.graph.outputs[0].type.shape[1])

    # --- arrays

    def new_array(self, size: Size, item_bytes: int) -> Argument:
        """An array for what is computed, of ``size`` items."""
        name = f"work{len(self._buffers)}"
        num_bytes = Size(size.times * item_bytes, size.symbols, size.over, size.plus, size.more * item_bytes)
        self._buffers[name] = num_bytes, len(self._launches), len(self._launches)
        return Argument("buffer", name)

    def keep_state(self, name: str, shape: tuple[int | str, ...], dtype: str) -> Argument:
        """An array that is kept between steps."""
        self._states.append(StateShape(name, shape, dtype))
        return Argument("state", name)

    def region(self, value: Value) -> Region:
        """The array behind an activation, or a parameter that is read row by row."""
        if value in self.regions:
            return self.regions[value]
        if value in self.stored:
            ((_, array),) = self.stored[value]
            rows = value.type.shape[0] if value.type.rank > 1 else 1
            width = (
                math.prod(int(dim) for dim in value.type.shape[1:])
                if value.type.rank > 1
                else int(value.type.shape[0])
            )
            return Region(array, rows, Rows.dense(width))
        raise CompileError(
            f"%{value.name} ({value.type}) is used where rows of activations are needed on {self.machine}"
        )

    def row_by_row(self, value: Value) -> tuple[Region, int, Rows]:
        """An activation whose last dimension alone makes a row: how many a token has, and one of them."""
        region, width = self.region(value), int(value.type.shape[-1])
        times = region.view.width // width
        if times > 1 and region.view != Rows.dense(times * width):
            raise CompileError(
                f"parts of %{value.name} ({value.type}) lie within wider rows, which has no kernel "
                f"on {self.machine}"
            )
        return region, times, region.view if times == 1 else Rows.dense(width)

    def parameter(self, value: Value) -> Argument:
        """The array of a parameter that has one."""
        if value not in self.stored or len(self.stored[value]) != 1:
            raise CompileError(
                f"%{value.name} ({value.type}) is no plain parameter, as kernels on {self.machine} need"
            )
        return self.stored[value][0][1]

    def result(self, value: Value, rows: int | str, width: int) -> Region:
        """Where a result goes: a new array, or that of the logits."""
        if value is self.graph.outputs[0]:
            array = Argument("logits", "logits")
        else:
            array = self.new_array(size_of(rows, width), 4)
        region = Region(array, rows, Rows.dense(width))
        self.regions[value] = region
        return region

    # --- launches

    def launch_rows(
        self,
        name: str,
        body: str,
        arguments: Sequence[tuple[str, Argument]],
        grid: tuple[Size, ...],
        threads: int,
        bounds: tuple[Bound, ...] = (),
        *,
        rows: Argument | None = None,
    ) -> None:
        """Launch a kernel whose blocks read, of what others compute, their row alone; with those before."""
        own = RowLaunch(name, body, tuple(arguments), grid, threads, bounds, rows)
        before = self._rows if self.machine.joins_rows else None
        joined = None if before is None else before.then(own)
        if joined is None:
            self._launch_rows()
        self._rows = joined or own

    def _launch_rows(self) -> None:
        """Launch what was kept back because more could follow."""
        kept, self._rows = self._rows, None
        if kept is not None:
            self.launch(
                kept.name,
                kept.body,
                kept.arguments,
                kept.grid,
                kept.threads,
                kept.bounds,
                rows=kept.rows,
            )

    def launch(
        self,
        name: str,
        body: str,
        arguments: Sequence[tuple[str, Argument]],
        grid: tuple[Size, ...],
        threads: int,
        bounds: tuple[Bound, ...] = (),
        *,
        shared_bytes: int = 0,
        waits_itself: bool = False,
        rows: Argument | None = None,
    ) -> None:
        """Launch a kernel of these statements over C++ ``arguments``: declarations, and what is given.

        What ``waits_itself`` calls ``wait_for_launch_before`` before it reads what launches compute. Of the
        array ``rows`` each block writes a row, and each thread every ``threads``-th element from its own on;
        then :meth:`go_on` can add to the kernel.
        """
        self._launch_rows()
        declarations = tuple(declaration for declaration, _ in arguments)
        key = declarations, body, threads
        if key not in self._functions:
            self._functions[key] = DeviceFunction(
                f"{name}_{self._num_functions}", declarations, body, threads, waits_itself
            )
            self._num_functions += 1
        self._last_rows = rows
        for _, argument in arguments:
            if argument.kind == "buffer":
                size, first, _ = self._buffers[argument.name]
                now = len(self._launches)
                self._buffers[argument.name] = size, min(first, now), now
        whole = (*grid, *[Size()] * (3 - len(grid)))
        given = tuple(argument for _, argument in arguments)
        self._launches.append(
            Launch(
                self._functions[key].name,
                (whole[0], whole[1], whole[2]),
                threads,
                given,
                bounds,
                shared_bytes,
            )
        )

    def go_on(
        self, rows: Argument, name: str, body: str, arguments: Sequence[tuple[str, Argument]]
    ) -> tuple[tuple[Bound, ...], ...]:
        """Let the last launch do more; returns the bounds within which a launch of its own must do it still.

        That is no bound where the last launch was another than that which wrote the array ``rows``, which its
        kernel calls ``out``. The statements ``body`` read of it what the same thread has written, over
        further ``arguments``.
        """
        if self._rows is not None and self._rows.rows != rows:
            return ((),)
        self._launch_rows()
        bounds = self._launches[-1].bounds if self._launches else ()
        if self._last_rows != rows or len(bounds) > 1 or any(bound.at_least for bound in bounds):
            return ((),)
        last = self._launches.pop()
        key, function = next((key, each) for key, each in self._functions.items() if each.name == last.kernel)
        if all(launch.kernel != last.kernel for launch in self._launches):
            del self._functions[key]
        self.launch(
            f"{last.kernel.rpartition('_')[0]}_{name}",
            f"{function.body} {body}",
            [*zip(function.parameters, last.arguments, strict=True), *arguments],
            last.grid,
            last.threads,
            last.bounds,
            shared_bytes=last.shared_bytes,
            waits_itself=function.waits_itself,
        )
        return tuple(
            (Bound(each.symbol, each.at_most + 1),) for each in last.bounds if each.at_most is not None
        )
