"""Copies of parts of rows: what slices, transposes, repeats and joins of them come to.

A part is a walk over elements of a source's row, and over places of the result's row, in even steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tvm import tirx

from .isa import Isa
from .rows import Rows, columns, load_rows
from .script import Buffer, Expr, T, kernel, load, store, symbol

__all__ = ["Part", "copy_parts", "joined", "permute_columns", "repeated", "sliced", "transposed"]


@dataclass(frozen=True)
class Part:
    """Elements from ``start`` of a source's row that go to places from ``place`` of the result's.

    ``loops`` are from the outermost to the innermost (count, step in the source, step in the result).
    """

    loops: tuple[tuple[int, int, int], ...]
    start: int = 0
    place: int = 0

    @classmethod
    def of(cls, counts: Sequence[int], steps: Sequence[int], places: Sequence[int], start: int = 0) -> Part:
        """The same with as few loops as it takes."""
        loops: list[tuple[int, int, int]] = []
        for count, step, place in zip(counts, steps, places, strict=True):
            if count == 1 and len(counts) > 1:
                continue
            if loops and loops[-1][1:] == (count * step, count * place):
                loops[-1] = (loops[-1][0] * count, step, place)
            else:
                loops.append((count, step, place))
        return cls(tuple(loops) or ((1, 1, 1),), start)


def _steps(shape: Sequence[int]) -> tuple[int, ...]:
    """From one element to the next along each dimension of an array that fills a row."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def sliced(shape: Sequence[int], axis: int, start: int, stop: int) -> Part:
    """Elements ``start`` to ``stop - 1`` of ``axis`` of rows that hold ``shape``."""
    counts = [*shape[:axis], stop - start, *shape[axis + 1 :]]
    steps = _steps(shape)
    return Part.of(counts, steps, _steps(counts), start * steps[axis])


def transposed(shape: Sequence[int], axes: Sequence[int]) -> Part:
    """Rows that hold ``shape`` with their dimensions in another order."""
    counts, steps = [shape[axis] for axis in axes], _steps(shape)
    return Part.of(counts, [steps[axis] for axis in axes], _steps(counts))


def repeated(shape: Sequence[int], axis: int, times: int) -> Part:
    """Each element of ``axis`` so many times, one after the other."""
    counts = [*shape[: axis + 1], times, *shape[axis + 1 :]]
    steps = _steps(shape)
    return Part.of(counts, [*steps[: axis + 1], 0, *steps[axis + 1 :]], _steps(counts))


def joined(shapes: Sequence[Sequence[int]], axis: int) -> tuple[Part, ...]:
    """Rows of several ``shapes`` that differ along ``axis``, side by side there."""
    whole = [*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :]]
    parts, place = [], 0
    for shape in shapes:
        part = Part.of(shape, _steps(shape), _steps(whole))
        parts.append(replace(part, place=place))
        place += shape[axis] * _steps(whole)[axis]
    return tuple(parts)


def copy_parts(
    isa: Isa, name: str, sources: tuple[Rows, ...], parts: tuple[Part, ...], width: int
) -> tirx.PrimFunc:
    """A part of each source.

    Arguments: the sources float32 ``[m, stride]``; the result ``[m, width]``.
    """

    def body(*buffers: Buffer) -> None:
        *rows, out = buffers
        with T.parallel(out.shape[0]) as row:
            for source, view, part in zip(rows, sources, parts, strict=True):
                _copy(isa, row, (source, view), part.loops, part.start, (out, part.place))

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        (f"source_{index}", (m, view.stride), "float32") for index, view in enumerate(sources)
    ]
    return kernel(name, [*arguments, ("out", (m, width), "float32")], body)


def permute_columns(isa: Isa, name: str, x: Rows) -> tirx.PrimFunc:
    """Rows with their elements in another order.

    Arguments: the source float32 ``[m, stride]``; which element each place has, int32 ``[width]``; the result
    ``[m, width]``.
    """

    def body(source: Buffer, order: Buffer, out: Buffer) -> None:
        with T.parallel(out.shape[0]) as row, T.serial(x.width) as place:
            store(out, (row, place), load_rows(source, x, row, load(order, (place,))))

    m = symbol("m")
    arguments: list[tuple[str, tuple[Expr, ...], str]] = [
        ("source", (m, x.stride), "float32"),
        ("order", (x.width,), "int32"),
        ("out", (m, x.width), "float32"),
    ]
    return kernel(name, arguments, body)


def _copy(
    isa: Isa,
    row: Expr,
    source: tuple[Buffer, Rows],
    loops: Sequence[tuple[int, int, int]],
    start: Expr,
    out: tuple[Buffer, Expr],
) -> None:
    """Emit ``loops`` over a source from ``start``, and over the result from a place."""
    (count, step, place_step), *inner = loops
    result, place = out

    def move(column: Expr, lanes: int) -> None:
        value = load_rows(*source, row, start + column * step, lanes)
        store(result, (row, place + column * place_step), value, lanes)

    if not inner and step == place_step == 1:
        columns(isa, count, move)
        return
    with T.serial(count) as index:
        if inner:
            _copy(isa, row, source, inner, start + index * step, (result, place + index * place_step))
        else:
            move(index, 1)
