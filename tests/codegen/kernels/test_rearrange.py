"""Copies of parts of rows on every machine, against the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ingot.codegen.kernels.rearrange import (
    Part,
    copy_parts,
    joined,
    permute_columns,
    repeated,
    sliced,
    transposed,
)
from ingot.codegen.kernels.rows import Rows
from ingot.ir import find_operator

from .machines import Machine, filled

NUM_ROWS = 5

CASES: dict[str, tuple[str, list[tuple[int, ...]], dict[str, Any]]] = {
    "elements of heads": ("slice", [(3, 21)], {"axis": 2, "start": 2, "stop": 19}),
    "one of four": ("slice", [(3, 4, 2)], {"axis": 2, "start": 1, "stop": 2}),
    "columns": ("slice", [(40,)], {"axis": 1, "start": 7, "stop": 40}),
    "pairs apart": ("transpose", [(3, 9, 2)], {"axes": (0, 1, 3, 2)}),
    "heads last": ("transpose", [(3, 17)], {"axes": (0, 2, 1)}),
    "a head for all": ("repeat", [(1, 18)], {"axis": 1, "times": 4}),
    "each element": ("repeat", [(2, 5)], {"axis": 2, "times": 3}),
    "parts of heads": ("concat", [(3, 17), (3, 2), (3, 5)], {"axis": 2}),
    "rows": ("concat", [(20,), (3,)], {"axis": 1}),
}


def parts_of(operator: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any]) -> tuple[Part, ...]:
    """The parts that an operator's rows are made of; its attributes count the dimension of tokens too."""
    (shape, *_), axis = shapes, attributes.get("axis", 0) - 1
    match operator:
        case "slice":
            return (sliced(shape, axis, attributes["start"], attributes["stop"]),)
        case "transpose":
            return (transposed(shape, [axis - 1 for axis in attributes["axes"][1:]]),)
        case "repeat":
            return (repeated(shape, axis, attributes["times"]),)
        case _:
            return joined(shapes, axis)


@pytest.mark.parametrize(("operator", "shapes", "attributes"), CASES.values(), ids=CASES)
def test_parts_of_rows(
    machine: Machine, operator: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any]
) -> None:
    random = np.random.default_rng(len(operator))
    arrays = [random.standard_normal((NUM_ROWS, *shape), np.float32) for shape in shapes]
    views = tuple(Rows(int(np.prod(shape)), int(np.prod(shape)) + 6, 5) for shape in shapes)
    buffers = [np.full((NUM_ROWS, view.stride), np.nan, np.float32) for view in views]
    for buffer, view, array in zip(buffers, views, arrays, strict=True):
        buffer[:, view.offset : view.offset + view.width] = array.reshape(NUM_ROWS, -1)
    (result,) = find_operator(operator).evaluate(arrays, attributes, {})
    expected = np.asarray(result).reshape(NUM_ROWS, -1)
    parts = parts_of(operator, shapes, attributes)
    kernel = machine.build(copy_parts(machine.isa, "kernel", views, parts, expected.shape[1]))
    out = filled(expected.shape, "float32")
    kernel(*buffers, out)
    np.testing.assert_array_equal(out, expected)


def test_columns_in_another_order(machine: Machine) -> None:
    random = np.random.default_rng(4)
    x, order = random.standard_normal((NUM_ROWS, 43), np.float32), random.permutation(21).astype(np.int32)
    (expected,) = find_operator("permute_columns").evaluate([x[:, 9:30], order], {}, {})
    kernel = machine.build(permute_columns(machine.isa, "kernel", Rows(21, 43, 9)))
    out = filled((NUM_ROWS, 21), "float32")
    kernel(x, order, out)
    np.testing.assert_array_equal(out, expected)


def test_neighbours_are_one_loop() -> None:
    assert sliced((3, 4, 5), 0, 1, 3) == Part(((40, 1, 1),), start=20)
    assert sliced((3, 4, 5), 1, 1, 3) == Part(((3, 20, 10), (10, 1, 1)), start=5)
    assert transposed((1, 7), (1, 0)) == Part(((7, 1, 1),))
