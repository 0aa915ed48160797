"""Convolutions and recurrences over slots of state on the emulation, against the interpreter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from ingot.ir import Graph, GraphBuilder, ScalarType, TensorType, Value, evaluate

from ..kernels.slots import MIXED, PAGE_SIZE, Batch
from .emulated import needs_compiler
from .steps import EmulatedStep

pytestmark = needs_compiler

Arrays = dict[str, npt.NDArray[np.generic]]
FLOAT32 = ScalarType.FLOAT32


@dataclass(frozen=True)
class Convolution:
    channels: int
    taps: int
    has_bias: bool = False
    is_activated: bool = False


@dataclass(frozen=True)
class Recurrence:
    """A scan, or a rule that corrects itself: ``state`` numbers in each of ``width`` columns of each head."""

    heads: int
    width: int
    groups: int
    state: int
    corrects: bool = False


CONVOLUTIONS = (
    Convolution(150, 4, has_bias=True, is_activated=True),
    Convolution(3, 2),
    Convolution(41, 11),
)
SCANS = (
    Recurrence(heads=6, width=10, groups=2, state=7),
    Recurrence(heads=2, width=37, groups=1, state=72),
    Recurrence(heads=1, width=5, groups=1, state=260),
    Recurrence(heads=150, width=1, groups=10, state=1),
)
RULES = tuple(replace(scan, corrects=True) for scan in SCANS[:3])


class Case:
    """A graph of several layers beside each other, and arrays for it."""

    def __init__(self) -> None:
        self.builder, self.random = GraphBuilder(), np.random.default_rng(5)
        self.arrays: Arrays = {}
        self.results: list[Value] = []
        self.states: list[Value] = []
        self.batch = Batch.of(MIXED)
        names = ("sequence_starts", "context_lengths", "page_table")
        shapes = (["sequence_bounds"], ["sequences"], ["sequences", "pages_per_sequence"])
        self.described = [
            self.builder.input(name, shape, ScalarType.INT32)
            for name, shape in zip(names, shapes, strict=True)
        ]
        self.arrays.update(zip(names, self.batch.arrays, strict=True))

    def rows(self, width: int, before: int, behind: int, scale: float = 1) -> Value:
        """Columns of wider rows."""
        stride, name = before + width + behind, f"rows{len(self.arrays)}"
        values = self.random.standard_normal((int(self.batch.starts[-1]), stride)) * scale
        self.arrays[name] = values.astype(np.float32)
        whole = self.builder.input(name, ["tokens", stride], FLOAT32)
        return self.builder.emit("slice", whole, axis=1, start=before, stop=before + width)

    def apart(self, rows: Value, *shape: int) -> Value:
        return self.builder.emit("reshape", rows, shape=("tokens", *shape))

    def parameter(self, values: npt.NDArray[np.float64]) -> Value:
        name = f"parameter{len(self.arrays)}"
        self.arrays[name] = values.astype(np.float32)
        return self.builder.parameter(name, TensorType(values.shape, FLOAT32))

    def slots(self, *shape: int) -> Value:
        name = f"slots{len(self.arrays)}"
        self.arrays[name] = self.batch.slots(*shape)
        return self.builder.state(name, ["pages", *shape], FLOAT32)

    def emit(self, operator: str, operands: list[Value], biases: list[Value], width: int) -> None:
        written, result = self.builder.emit_all(
            operator, *operands, *self.described, *biases, page_size=PAGE_SIZE
        )
        self.states.append(written)
        self.results.append(result if result.type.rank == 2 else self.apart(result, width))

    def add_convolution(self, layer: Convolution) -> None:
        x = self.rows(layer.channels, 3, 5)
        weight = self.parameter(self.random.standard_normal((layer.taps, layer.channels)))
        biases = [self.parameter(self.random.standard_normal(layer.channels))] if layer.has_bias else []
        slots = self.slots(layer.taps - 1, layer.channels)
        self.emit("paged_conv", [slots, x, weight], biases, layer.channels)
        if layer.is_activated:
            self.results[-1] = self.builder.emit("silu", self.results[-1])

    def add_recurrence(self, layer: Recurrence) -> None:
        heads, keys = layer.heads, layer.groups * layer.state
        x = self.apart(self.rows(heads * layer.width, 4, 2), heads, layer.width)
        steps = self.rows(heads, 1, 0, scale=3)
        key, query = (
            self.apart(self.rows(keys, before, 0, scale=layer.state**-0.5), layer.groups, layer.state)
            for before in (1, 0)
        )
        decay = self.parameter(-np.exp(self.random.standard_normal(heads)))
        skip, bias = (self.parameter(self.random.standard_normal(heads)) for _ in range(2))
        slots = self.slots(heads, layer.state, layer.width)
        if layer.corrects:
            rates = self.builder.emit("sigmoid", self.rows(heads, 0, 2))
            operands = [slots, query, key, x, steps, rates, decay, bias]
        else:
            operands = [slots, x, steps, key, query, decay, skip, bias]
        self.emit("paged_delta" if layer.corrects else "paged_scan", operands, [], heads * layer.width)

    @property
    def graph(self) -> Graph:
        return self.builder.build(self.builder.emit("concat", *self.results, axis=1), *self.states)

    @property
    def expected(self) -> list[npt.NDArray[np.float32]]:
        return [np.asarray(array) for array in evaluate(self.graph, self.arrays)]


@cache
def all_layers() -> tuple[Case, EmulatedStep]:
    case = Case()
    for convolution in CONVOLUTIONS:
        case.add_convolution(convolution)
    for recurrence in (*SCANS, *RULES):
        case.add_recurrence(recurrence)
    return case, EmulatedStep(case.graph)


def symbols_of(batch: Batch) -> dict[str, int]:
    sequences, width = batch.table.shape
    return {"tokens": int(batch.starts[-1]), "sequences": sequences, "pages_per_sequence": width}


def fresh(case: Case) -> Arrays:
    return {name: array.copy() if name.startswith("slots") else array for name, array in case.arrays.items()}


def test_layers_with_states_are_those_of_the_interpreter() -> None:
    case, step = all_layers()
    arrays = fresh(case)
    found = step.run(arrays, symbols_of(case.batch))
    expected, *states = case.expected
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    for state, values in zip(case.builder.build().states, states, strict=True):
        np.testing.assert_allclose(arrays[state.name], values, rtol=1e-4, atol=2e-5, err_msg=state.name)


def test_no_bit_of_them_depends_on_chunks_or_the_batch() -> None:
    case, step = all_layers()
    together = fresh(case)
    whole = step.run(together, symbols_of(case.batch))
    for sequence in range(len(MIXED)):
        apart = fresh(case)
        for part, piece in case.batch.pieces(sequence, 7):
            names = ("sequence_starts", "context_lengths", "page_table")
            own = {
                name: np.ascontiguousarray(array[part]) if name.startswith("rows") else array
                for name, array in apart.items()
            } | dict(zip(names, piece.arrays, strict=True))
            np.testing.assert_array_equal(step.run(own, symbols_of(piece)), whole[part])
        for page in case.batch.table[sequence, : -(-case.batch.lengths[sequence] // PAGE_SIZE)]:
            for state in case.builder.build().states:
                np.testing.assert_array_equal(apart[state.name][page], together[state.name][page])
