"""Parts of tensors: slices and selections, of tables of positions also those as long as there are tokens."""

from __future__ import annotations

from typing import Any, cast

import torch

from ....ir.errors import CompileError
from ....ir.graph import Value
from ..converter import Converter, Rule
from ..layout import TOKENS, Layout
from ..lengths import at_length, longest_of
from ..terms import HIDDEN, SHAPELESS, Ahead, Empty, Mask, MaskForm, Parameter, Parts, Positional, Term

__all__ = ["RULES", "of_positions"]

_FEW = 128
"""Elements that may be taken one by one."""


def _slice(converter: Converter, node: torch.fx.Node) -> Term:
    source = cast(torch.fx.Node, node.args[0])
    given = list(node.args[1:])
    dim, start, stop, step = given + [0, None, None, 1][len(given) :]
    if isinstance(ahead := converter.term(source), Ahead):
        return _first_rows(converter, ahead, node, start)
    before, after = converter.layout(source), converter.layout(node)
    dim = cast(int, dim) % before.rank
    if before.sizes == after.sizes and before.in_batch == after.in_batch:
        return converter.term(source)
    term = converter.term(source)
    if isinstance(term, Empty | Parts):
        return Empty()  # where something is about to be written
    size = before.sizes[dim]
    if dim in after.tokens and isinstance(size, int) and isinstance(start, int | None):
        return _of_positions(converter, source, dim, start or 0, after)
    if dim in after.tokens and isinstance(start, torch.fx.Node):
        return _last_of(converter, node, source, dim, start)
    if isinstance(term, SHAPELESS) and dim not in before.tokens:
        return term
    if isinstance(term, SHAPELESS) or not isinstance(size, int) or before.in_batch[dim]:
        raise CompileError(
            f"a slice of dimension {dim} of {before.sizes}, along the tokens, is not supported"
        )
    first = _bound(start, size, 0)
    last = _bound(stop, size, size)
    if first >= last:
        return None  # nothing, which a concatenation leaves out
    return _strided(
        converter, converter.weight(source), converter.axis(source, dim), first, last, cast(int, step)
    )


def _last_of(
    converter: Converter, node: torch.fx.Node, source: torch.fx.Node, dim: int, start: torch.fx.Node
) -> Term:
    """The end of a table, as long as there are tokens, where it rises evenly, as distances to the last do."""
    table, after, emit = converter.term(source), converter.layout(node), converter.emit
    size = converter.layout(source).sizes[dim]
    known = isinstance(table, torch.Tensor) and isinstance(size, int) and size > 1 and len(after.tokens) == 1
    if not known or not _ends_with(converter, start, int(size)):
        raise CompileError("a slice whose bounds are computed is not supported")
    assert isinstance(table, torch.Tensor)
    last = table.narrow(dim, int(size) - 1, 1)
    rise = last - table.narrow(dim, int(size) - 2, 1)
    numbers = torch.arange(1 - int(size), 1).reshape([-1 if d == dim else 1 for d in range(table.ndim)])
    if not torch.allclose(table, last + rise * numbers):
        raise CompileError("the end of a table of positions is supported where it rises evenly only")
    # The last token is at the last place.
    behind = emit("sub", emit.number(1.0), emit("sequence_length", converter.positions))
    distance = emit("add", emit("cast", converter.positions, to="float32"), behind)
    column = emit.reshape(distance, [size if size == TOKENS else 1 for size in after.shape])
    shape = [1 if size == TOKENS else int(size) for size in after.shape]
    first, step = (emit.constant(part.float().reshape(shape).numpy()) for part in (last, rise))
    return emit("add", emit("mul", column, step), first)


def _ends_with(converter: Converter, start: torch.fx.Node, size: int) -> bool:
    """Whether a slice from ``start`` is as long as there are tokens, up to the model's longest sequence."""
    first = start.meta["val"]
    return all(at_length(first.node.expr, tokens) == size - tokens for tokens in (8, longest_of(first)))


def _first_rows(converter: Converter, ahead: Ahead, node: torch.fx.Node, start: Any) -> Term:
    if len(converter.layout(node).tokens) != 1 or start not in (0, None):
        raise CompileError("other results of a convolution than those of the tokens are not supported")
    return ahead.rows


def _of_positions(converter: Converter, source: torch.fx.Node, dim: int, start: int, after: Layout) -> Term:
    """The beginning of a table of positions, as long as there are tokens."""
    term = converter.term(source)
    if isinstance(term, Parameter) and converter.layout(source).rank == 2 and dim == 0:
        table = converter.weight(source)
        used = converter.emit.slice(table, 0, start, int(table.type.shape[0]))
        return converter.emit("embedding", used, converter.positions)
    if not isinstance(term, torch.Tensor):
        raise CompileError("as many elements as there are tokens can be taken of constants only")
    rest = term.narrow(dim, start, term.shape[dim] - start)
    return of_positions(rest, dim, after)


def of_positions(rest: torch.Tensor, dim: int, after: Layout) -> Term:
    """A table whose dimension ``dim`` counts positions, as far as there are tokens."""
    if len(after.tokens) == 2:
        return _mask_of(rest, after)
    if not rest.is_floating_point() and after.tokens == (dim,):
        line = rest.movedim(dim, 0).reshape(rest.shape[dim], -1)
        if bool((line == line[:1]).all()):
            return Positional(0, float(line[0, 0]))
        if bool((line == line[0] + torch.arange(len(line))[:, None]).all()):
            return Positional(1, int(line[0, 0]))
    return rest


def _mask_of(table: torch.Tensor, after: Layout) -> Mask:
    """A table of which position sees which, where it is causal or a sliding window."""
    numbers = table.reshape(table.shape[after.tokens[0]], table.shape[after.tokens[1]])
    form = MaskForm.ADDED if bool((numbers < 0).any()) else MaskForm.SEEN
    sees = numbers == 0 if form is MaskForm.ADDED else numbers.bool()
    distance = torch.arange(sees.shape[0])[:, None] - torch.arange(sees.shape[1])[None, :]
    window = int(sees[-1].sum())
    window = 0 if window == sees.shape[1] else window
    expected = (distance >= 0) & ((distance < window) if window else True)
    hides = numbers[~expected] <= HIDDEN if form is MaskForm.ADDED else numbers[expected] == 1
    if not bool((sees == expected).all()) or not bool(hides.all()):
        raise CompileError("a table of which position sees which is neither causal nor a sliding window")
    return Mask(window, form)


def _bound(bound: Any, size: int, default: int) -> int:
    if bound is None:
        return default
    if not isinstance(bound, int):
        raise CompileError("a slice whose bounds are computed is not supported")
    return max(0, min(size, bound + size if bound < 0 else bound))


def _strided(converter: Converter, value: Value, axis: int, first: int, last: int, step: int) -> Value:
    """Every ``step``-th element along an axis, as a slice of groups of so many."""
    if step == 1:
        return converter.emit.slice(value, axis, first, last)
    shape = value.type.shape
    size = int(shape[axis])
    if size % step or last != size or first >= step:
        picked = range(first, last, step)
        if len(picked) > _FEW:
            raise CompileError(f"every {step}th of {size} elements from {first} to {last} is not supported")
        return converter.emit.concat([converter.emit.slice(value, axis, i, i + 1) for i in picked], axis)
    groups = converter.emit.reshape(value, (*shape[:axis], size // step, step, *shape[axis + 1 :]))
    taken = converter.emit.slice(groups, axis + 1, first, first + 1)
    return converter.emit.reshape(taken, (*shape[:axis], size // step, *shape[axis + 1 :]))


def _select(converter: Converter, node: torch.fx.Node) -> Term:
    source, dim, index = cast("tuple[torch.fx.Node, int, int]", node.args[:3])
    before = converter.layout(source)
    dim = dim % before.rank
    if before.in_batch[dim] or not isinstance(before.sizes[dim], int):
        raise CompileError("one token, or one of a batch, cannot be selected")
    if isinstance(term := converter.term(source), SHAPELESS):
        return term
    value = converter.weight(source)
    if dim in before.axes:
        axis, size = before.axes.index(dim), int(before.sizes[dim])
        value = converter.emit.slice(value, axis, index % size, index % size + 1)
    return converter.emit.reshape(value, converter.layout(node).shape)


RULES: dict[str, Rule] = {"aten.slice": _slice, "aten.select": _select}
