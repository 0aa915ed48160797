"""Norms of rows or of their heads, which may add a residual before and round what they give after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx

from .isa import Isa, fma
from .row_codes import RowCodes
from .row_results import RowResults
from .rows import Rows, columns, each_row, load_rows, reduce_add
from .script import Buffer, Expr, T, Vector, broadcast, kernel, load, store, symbol

__all__ = ["layer_norm", "rms_norm"]


@dataclass(frozen=True)
class _Norms:
    """What both kinds are told: rows, how many columns are one norm, and what else there is."""

    isa: Isa
    x: Rows
    size: int
    residual: Rows | None
    has_bias: bool
    codes: RowCodes | None

    def kernel(self, name: str, norm_head: _NormHead) -> tirx.PrimFunc:
        """The kernel whose norms ``norm_head`` emits."""
        x, results = self.x, RowResults(self.isa, self.x.width, self.codes)

        def body(rows: Buffer, *rest: Buffer) -> None:
            given, out = _Given(self, rows, rest[: -results.num_arguments]), rest[-results.num_arguments :]

            def norm(row: Expr) -> None:
                def make(made: Buffer, made_row: Expr) -> None:
                    with T.serial(x.width // self.size) as head:
                        norm_head(given, row, head, made, made_row)

                results.store(out, row, make)

            each_row(rows.shape[0], x.width, norm)

        m = symbol("m")
        arguments: list[tuple[str, tuple[Expr, ...], str]] = [("x", (m, x.stride), "float32")]
        if self.residual is not None:
            arguments.append(("residual", (m, self.residual.stride), "float32"))
        arguments.append(("weight", (self.size,), "float32"))
        if self.has_bias:
            arguments.append(("bias", (self.size,), "float32"))
        if self.residual is not None:
            arguments.append(("total", (m, x.width), "float32"))
        return kernel(name, [*arguments, *results.arguments(m)], body)


class _Given:
    """A norm's rows and weights, in a kernel's arguments."""

    def __init__(self, norms: _Norms, rows: Buffer, others: tuple[Buffer, ...]) -> None:
        rest = list(others)
        self._norms, self._rows = norms, rows
        self._residual = rest.pop(0) if norms.residual is not None else None
        self.weight = rest.pop(0)
        self.bias = rest.pop(0) if norms.has_bias else None
        self._total = rest.pop(0) if norms.residual is not None else None

    def take_up(self, row: Expr, column: Expr, value: Vector, width: int) -> None:
        """Set ``value`` to columns of a row; with a residual that is their sum, which is kept."""
        norms = self._norms
        value.set(load_rows(self._rows, norms.x, row, column, width))
        if norms.residual is not None and self._residual is not None and self._total is not None:
            value.set(value.value + load_rows(self._residual, norms.residual, row, column, width))
            store(self._total, (row, column), value.value, width)

    def read(self, row: Expr, column: Expr, width: int) -> tirx.Expr:
        """What :meth:`take_up` gave."""
        if self._total is not None:
            return load_rows(self._total, Rows.dense(self._norms.x.width), row, column, width)
        return load_rows(self._rows, self._norms.x, row, column, width)


_NormHead: TypeAlias = "Callable[[_Given, Expr, Expr, Buffer, Expr], None]"
"""Emits one norm: what is given, row and head of it, and what the norm is written to, by its row."""


def rms_norm(
    isa: Isa,
    name: str,
    x: Rows,
    size: int,
    epsilon: float,
    residual: Rows | None,
    codes: RowCodes | None = None,
) -> tirx.PrimFunc:
    """Root mean square norm over each ``size`` columns of a row, the whole row or a head of it.

    Arguments: ``x`` float32 ``[m, x.stride]``, a residual likewise if there is one, the weight float32
    ``[size]``; results: the sum ``[m, width]`` if there is a residual, and the norm, ``[m, width]`` or its
    ``codes``.
    """
    lanes = isa.lanes

    def norm_head(given: _Given, row: Expr, head: Expr, normed: Buffer, place: Expr) -> None:
        squares, tail = Vector("float32", lanes), Vector("float32", 1)
        squares.fill(T.float32(0))
        tail.set(T.float32(0))

        def accumulate(column: Expr, width: int) -> None:
            value, into = Vector("float32", width), squares if width > 1 else tail
            given.take_up(row, head * size + column, value, width)
            into.set(fma(width, value.value, value.value, into.value))

        columns(isa, size, accumulate)
        factor = Vector("float32", 1)
        mean = (reduce_add(lanes, squares.value) + tail.value) / T.float32(size)
        factor.set(T.float32(1) / tirx.sqrt(mean + T.float32(epsilon)))

        def scale(column: Expr, width: int) -> None:
            value = given.read(row, head * size + column, width)
            scaled = value * broadcast(factor.value, width) * load(given.weight, (column,), width)
            store(normed, (place, head * size + column), scaled, width)

        columns(isa, size, scale)

    return _Norms(isa, x, size, residual, False, codes).kernel(name, norm_head)


def layer_norm(
    isa: Isa,
    name: str,
    x: Rows,
    size: int,
    epsilon: float,
    residual: Rows | None,
    has_bias: bool,
    codes: RowCodes | None = None,
) -> tirx.PrimFunc:
    """Norm of the distances from the mean, over each ``size`` columns of a row.

    Arguments and results are those of :func:`rms_norm`, with a bias float32 ``[size]`` after the weight if it
    ``has_bias``.
    """
    lanes = isa.lanes

    def norm_head(given: _Given, row: Expr, head: Expr, made: Buffer, made_row: Expr) -> None:
        mean, factor = Vector("float32", 1), Vector("float32", 1)

        def averaged(of: Callable[[tirx.Expr, int], tirx.Expr], first: bool) -> tirx.Expr:
            sums = Vector("float32", lanes)
            tail = Vector("float32", 1)
            sums.fill(T.float32(0))
            tail.set(T.float32(0))

            def accumulate(column: Expr, width: int) -> None:
                value, into = Vector("float32", width), sums if width > 1 else tail
                if first:
                    given.take_up(row, head * size + column, value, width)
                else:
                    value.set(given.read(row, head * size + column, width))
                into.set(into.value + of(value.value, width))

            columns(isa, size, accumulate)
            return (reduce_add(lanes, sums.value) + tail.value) / T.float32(size)

        def distance(value: tirx.Expr, width: int) -> tirx.Expr:
            return value - broadcast(mean.value, width)

        mean.set(averaged(lambda value, _: value, True))
        variance = averaged(lambda value, width: distance(value, width) * distance(value, width), False)
        factor.set(T.float32(1) / tirx.sqrt(variance + T.float32(epsilon)))

        def scale(column: Expr, width: int) -> None:
            value = distance(given.read(row, head * size + column, width), width)
            normed = value * broadcast(factor.value, width) * load(given.weight, (column,), width)
            if given.bias is not None:
                normed = normed + load(given.bias, (column,), width)
            store(made, (made_row, head * size + column), normed, width)

        columns(isa, size, scale)

    return _Norms(isa, x, size, residual, has_bias, codes).kernel(name, norm_head)
