"""Tensors that a model's code makes empty and writes part by part: they are its parts, side by side."""

from __future__ import annotations

from typing import Any, cast

import torch

from ....ir.errors import CompileError
from ....ir.graph import Value
from ..converter import Converter, Rule
from ..terms import Empty, Parts, Term
from .shape import spread

__all__ = ["RULES"]


def _empty(converter: Converter, node: torch.fx.Node) -> Term:
    return Empty()


def _copy(converter: Converter, node: torch.fx.Node) -> Term:
    """What is written over the whole of a tensor takes its shape."""
    target, source = cast("tuple[torch.fx.Node, torch.fx.Node]", node.args[:2])
    term = converter.term(source)
    if converter.layout(source).sizes == converter.layout(target).sizes:
        return term
    return spread(converter, source, converter.layout(node))


def _write(converter: Converter, node: torch.fx.Node) -> Term:
    """``tensor[..., start:stop] = source`` along one dimension."""
    target, source = cast("tuple[torch.fx.Node, torch.fx.Node]", node.args[:2])
    given: list[Any] = list(node.args[2:])
    dim, start, stop, step = given + [0, None, None, 1][len(given) :]
    layout = converter.layout(target)
    size = layout.sizes[cast(int, dim) % layout.rank]
    if not isinstance(size, int) or not isinstance(step, int):
        raise CompileError("writing over some of the tokens is not supported")
    axis = converter.axis(target, cast(int, dim))
    first, last = (_bound(bound, size, default) for bound, default in ((start, 0), (stop, size)))
    written = converter.value(source)
    if step != 1:
        return _every(converter, converter.value(target), written, axis, range(first, last, step))
    term = converter.term(target)
    if isinstance(term, Empty):
        term = Parts(axis, ())
    if isinstance(term, Parts):
        if term.axis != axis:
            raise CompileError("a tensor that is written along two of its dimensions is not supported")
        return _joined(converter, Parts(axis, (*term.parts, (first, last, written))), size)
    old = converter.value(target)
    kept = [converter.emit.slice(old, axis, 0, first)] if first else []
    rest = [converter.emit.slice(old, axis, last, size)] if last < size else []
    return converter.emit.concat([*kept, written, *rest], axis)


def _write_one(converter: Converter, node: torch.fx.Node) -> Term:
    """``tensor.select(dim, index)[:] = source``."""
    target, source, dim, index = node.args[:4]
    axis = converter.axis(cast(torch.fx.Node, target), cast(int, dim))
    old = converter.value(target)
    shape = [1 if at == axis else size for at, size in enumerate(old.type.shape)]
    size = old.type.shape[axis]
    if not isinstance(size, int) or not isinstance(index, int):
        raise CompileError("writing over one of the tokens is not supported")
    written = converter.emit.reshape(converter.value(source), shape)
    return _every(converter, old, written, axis, range(index % size, index % size + 1))


def _every(converter: Converter, old: Value, written: Value, axis: int, places: range) -> Value:
    """``old`` with the elements of ``written`` in some places, element by element."""
    size = int(old.type.shape[axis])
    parts = [converter.emit.slice(old, axis, i, i + 1) for i in range(size)]
    for index, place in enumerate(places):
        parts[place] = converter.emit.slice(written, axis, index, index + 1)
    return converter.emit.concat(parts, axis)


def _joined(converter: Converter, parts: Parts, size: int) -> Term:
    """The parts as one value, once there is nothing between them."""
    ordered = sorted(parts.parts, key=lambda part: part[0])
    reached = 0
    for first, last, _ in ordered:
        if first < reached:
            raise CompileError("an element that is written twice is not supported")
        if first > reached:
            return parts
        reached = last
    return converter.emit.concat([value for _, _, value in ordered], parts.axis) if reached == size else parts


def _bound(bound: object, size: int, default: int) -> int:
    if bound is None:
        return default
    if not isinstance(bound, int):
        raise CompileError("writing within bounds that are computed is not supported")
    return max(0, min(size, bound + size if bound < 0 else bound))


RULES: dict[str, Rule] = {
    "aten.empty": _empty,
    "aten.empty_like": _empty,
    "aten.new_empty": _empty,
    "aten.copy": _copy,
    "aten.slice_scatter": _write,
    "aten.select_scatter": _write_one,
}
