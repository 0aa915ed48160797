"""Functions of single elements: one kernel for a whole expression, and gates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx

from .functions import BINARY, CHOICES, UNARY
from .isa import Isa
from .row_codes import RowCodes
from .row_results import RowResults
from .rows import Rows, columns, each_row, load_rows
from .script import Buffer, Expr, T, Vector, broadcast, cast, kernel, load, store, symbol

__all__ = ["Argument", "Expression", "elementwise", "gate"]

Expression: TypeAlias = "float | int | tuple[str, *tuple[Expression, ...]]"
"""A float is itself, an int the argument of this number, a tuple an operator's name and its operands."""


@dataclass(frozen=True)
class Argument:
    """What an expression is over: ``rows``, walked by ``steps`` along each dimension of the result's row.

    The last step is 1, or 0 where one element serves for all. One ``in_every_row`` is an array of that shape,
    which is the same for each row. One that ``is_integer`` has one int32 for each row.
    """

    rows: Rows
    steps: tuple[int, ...] = (1,)
    in_every_row: tuple[int, ...] = ()
    is_integer: bool = False

    def type_of(self, num_rows: Expr) -> tuple[tuple[Expr, ...], str]:
        """Shape and dtype of its buffer."""
        if self.is_integer:
            return (num_rows,), "int32"
        return self.in_every_row or (num_rows, self.rows.stride), "float32"

    def load(self, source: Buffer, row: Expr, indices: tuple[Expr, ...], lanes: int) -> tirx.Expr:
        """Elements at ``indices`` of a row, and of the last dimension as many as ``lanes``."""
        if self.is_integer:
            return broadcast(cast("float32", 1, load(source, (row,))), lanes)
        place: Expr = 0
        for index, step in zip(indices, self.steps, strict=True):
            place = place + index * step
        count = lanes if self.steps[-1] else 1
        # An array lies without gaps: its last index may run on over all of it.
        value = (
            load(source, (*[0] * (len(self.in_every_row) - 1), place), count)
            if self.in_every_row
            else load_rows(source, self.rows, row, place, count)
        )
        return value if count == lanes else broadcast(value, lanes)


def elementwise(
    isa: Isa, name: str, expression: Expression, arguments: tuple[Argument, ...], shape: tuple[int, ...]
) -> tirx.PrimFunc:
    """``expression`` of each element of rows that hold ``shape``.

    Arguments: float32 ``[m, rows.stride]`` for each that differs by row, arrays for the others, int32 ``[m]``
    for integers; the result ``[m, width]``.
    """

    def body(*buffers: Buffer) -> None:
        *sources, out = buffers

        def value(term: Expression, row: Expr, indices: tuple[Expr, ...], lanes: int) -> tirx.Expr:
            """``term``, in a variable: what applies it may take it more than once."""
            if isinstance(term, float):
                return broadcast(T.float32(term), lanes)
            result = Vector("float32", lanes)
            if isinstance(term, int):
                result.set(arguments[term].load(sources[term], row, indices, lanes))
                return result.value
            operator, *terms = term
            operands = [value(t, row, indices, lanes) for t in terms]
            if operator in UNARY:
                result.set(UNARY[operator](isa, lanes, *operands))
            elif operator in CHOICES:
                result.set(CHOICES[operator](lanes, *operands))
            else:
                result.set(BINARY[operator](*operands))
            return result.value

        def walk(row: Expr, outer: tuple[Expr, ...], start: Expr) -> None:
            size = shape[len(outer)]
            if len(outer) < len(shape) - 1:
                with T.serial(size) as index:
                    walk(row, (*outer, index), (start + index) * shape[len(outer) + 1])
                return
            columns(
                isa,
                size,
                lambda column, lanes: store(
                    out, (row, start + column), value(expression, row, (*outer, column), lanes), lanes
                ),
            )

        each_row(out.shape[0], math.prod(shape), lambda row: walk(row, (), 0))

    m = symbol("m")
    types = [(f"x{index}", *argument.type_of(m)) for index, argument in enumerate(arguments)]
    return kernel(name, [*types, ("out", (m, math.prod(shape)), "float32")], body)


def gate(isa: Isa, name: str, x: Rows, activation: str, codes: RowCodes | None = None) -> tirx.PrimFunc:
    """``activation(gate) * up`` of rows that hold both halves; the result is ``[m, width / 2]``, or its
    ``codes``.
    """
    half = x.width // 2
    results = RowResults(isa, half, codes)

    def body(rows: Buffer, *out: Buffer) -> None:
        def open_gates(row: Expr) -> None:
            def make(opened: Buffer, place: Expr) -> None:
                def open_gate(column: Expr, width: int) -> None:
                    value = Vector("float32", width)
                    value.set(load_rows(rows, x, row, column, width))
                    factor = UNARY[activation](isa, width, value.value)
                    up = load_rows(rows, x, row, half + column, width)
                    store(opened, (place, column), factor * up, width)

                columns(isa, half, open_gate)

            results.store(out, row, make)

        each_row(rows.shape[0], x.width, open_gates)

    m = symbol("m")
    return kernel(name, [("x", (m, x.stride), "float32"), *results.arguments(m)], body)
