"""Operators that move elements without computing."""

from __future__ import annotations

from typing import Any, cast

import torch

from ....ir.errors import CompileError
from ....ir.graph import Value
from ..converter import Converter, Rule
from ..layout import TOKENS, Layout
from ..terms import SHAPELESS, Mask, MaskForm, Positional, Term, Truth

__all__ = ["RULES", "for_each_token", "spread"]


def _same(converter: Converter, node: torch.fx.Node) -> Term:
    """Copies, and casts between types of floats: all is float32 here."""
    return converter.term(node.args[0])


def _cast(converter: Converter, node: torch.fx.Node) -> Term:
    term = converter.term(node.args[0])
    before, after = node.args[0].meta["val"].dtype, node.meta["val"].dtype
    if isinstance(term, Truth) and after is not torch.bool:
        return Positional(0, float(term.value))
    if isinstance(term, Mask) and after is torch.bool and term.form is MaskForm.ADDED:
        return Mask(term.window, MaskForm.HIDDEN)  # numbers other than 0 hide
    if isinstance(term, SHAPELESS) or before == after:
        return term
    if before.is_floating_point and after.is_floating_point:
        return term
    if not before.is_floating_point and after.is_floating_point and before is not torch.bool:
        return converter.emit("cast", converter.value(node.args[0]), to="float32")
    if before is torch.bool and isinstance(term, Value):
        return term if after.is_floating_point else converter.emit("cast", term, to="int32")
    raise CompileError(f"a cast from {before} to {after} is not supported")


def _reshape(converter: Converter, node: torch.fx.Node) -> Term:
    source = cast(torch.fx.Node, node.args[0])
    term = converter.term(source)
    if isinstance(term, SHAPELESS):
        return term
    before, after = converter.layout(source), converter.layout(node)
    if before.elements_before_tokens() != after.elements_before_tokens():
        raise CompileError(f"a reshape of {before.sizes} to {after.sizes} mixes tokens")
    return converter.emit.reshape(_value(converter, source), after.shape)


def _value(converter: Converter, node: Any) -> Value:
    """A value whose elements only move: parameters keep the checkpoint's type."""
    return converter.weight(node)


def _permute(converter: Converter, node: torch.fx.Node, order: list[int]) -> Term:
    """The traced dimension ``order[i]`` of the operand is dimension i of the result."""
    source = cast(torch.fx.Node, node.args[0])
    term = converter.term(source)
    if isinstance(term, SHAPELESS):
        return term
    after = converter.layout(node)
    wanted = [order[axis] for axis in after.axes]
    return converter.arrange(_value(converter, source), converter.layout(source), wanted)


def _transpose(converter: Converter, node: torch.fx.Node) -> Term:
    rank = converter.layout(node).rank
    order = list(range(rank))
    first, second = (cast(int, dim) % rank for dim in node.args[1:3])
    order[first], order[second] = order[second], order[first]
    return _permute(converter, node, order)


def _t(converter: Converter, node: torch.fx.Node) -> Term:
    return _permute(converter, node, list(range(converter.layout(node).rank))[::-1])


def _permuted(converter: Converter, node: torch.fx.Node) -> Term:
    rank = converter.layout(node).rank
    return _permute(converter, node, [dim % rank for dim in cast("list[int]", node.args[1])])


def _expand(converter: Converter, node: torch.fx.Node) -> Term:
    source = cast(torch.fx.Node, node.args[0])
    term = converter.term(source)
    if isinstance(term, SHAPELESS):
        return term
    return spread(converter, source, converter.layout(node))


def spread(converter: Converter, source: torch.fx.Node, after: Layout) -> Value:
    """``source`` repeated along the dimensions in which it is 1 and ``after`` is not."""
    before = converter.layout(source)
    behind = after.rank - before.rank
    wanted = [axis - behind if axis >= behind else None for axis in after.axes]
    value = converter.arrange(_value(converter, source), before, wanted)
    for axis, size in enumerate(after.shape):
        if value.type.shape[axis] != size:
            if isinstance(size, int):
                value = converter.emit.repeat(value, axis, size)
            else:
                value = for_each_token(converter, value, axis)
    return value


def for_each_token(converter: Converter, value: Value, axis: int = 0) -> Value:
    """What is the same for all tokens, once for each along ``axis``: added to zeros."""
    column = converter.emit("cast", converter.positions, to="float32")
    zeros = converter.emit("mul", column, converter.emit.number(0.0))
    shape = [TOKENS if index == axis else 1 for index in range(value.type.rank)]
    return converter.emit("add", converter.emit.reshape(zeros, shape), value)


def _parts(converter: Converter, node: torch.fx.Node) -> Term:
    """``split``, ``chunk`` and ``unbind``: where one ends the next begins, as the results' shapes say."""
    source = cast(torch.fx.Node, node.args[0])
    is_unbind = "unbind" in str(node.target)
    position = 1 if is_unbind else 2
    dim = node.args[position] if len(node.args) > position else node.kwargs.get("dim", 0)
    before = converter.layout(source)
    dim = cast(int, dim) % before.rank
    value, axis = _value(converter, source), converter.axis(source, dim)
    results: list[Term] = []
    start = 0
    for part in node.meta["val"]:
        after = Layout.of(part.shape)
        size = 1 if is_unbind else int(after.sizes[dim])
        taken = converter.emit.slice(value, axis, start, start + size)
        results.append(converter.emit.reshape(taken, after.shape))
        start += size
    return tuple(results)


def _cat(converter: Converter, node: torch.fx.Node) -> Term:
    parts = cast("list[torch.fx.Node]", node.args[0])
    dim = cast(int, node.args[1]) if len(node.args) > 1 else 0
    parts = [part for part in parts if 0 not in part.meta["val"].shape]
    axis = converter.axis(node, dim)
    return converter.emit.concat([_value(converter, part) for part in parts], axis)


def _stack(converter: Converter, node: torch.fx.Node) -> Term:
    parts = cast("list[torch.fx.Node]", node.args[0])
    after = converter.layout(node)
    dim = (cast(int, node.args[1]) if len(node.args) > 1 else 0) % after.rank
    axis = converter.axis(node, dim)
    shape = [1 if index == axis else size for index, size in enumerate(after.shape)]
    return converter.emit.concat(
        [converter.emit.reshape(_value(converter, part), shape) for part in parts], axis
    )


def _repeat_interleave(converter: Converter, node: torch.fx.Node) -> Term:
    source, times = cast("tuple[torch.fx.Node, int]", node.args[:2])
    dim = cast(int, node.args[2] if len(node.args) > 2 else node.kwargs["dim"])
    return converter.emit.repeat(_value(converter, source), converter.axis(source, dim), times)


def _repeat(converter: Converter, node: torch.fx.Node) -> Term:
    """Tiles along dimensions of 1, or over the batch."""
    source = cast(torch.fx.Node, node.args[0])
    before, after = converter.layout(source), converter.layout(node)
    term = converter.term(source)
    if isinstance(term, SHAPELESS):
        return term
    behind = after.rank - before.rank
    value = converter.arrange(
        _value(converter, source), before, [a - behind if a >= behind else None for a in after.axes]
    )
    for axis, size in enumerate(after.shape):
        old = value.type.shape[axis]
        if old == size:
            continue
        if size == TOKENS or not isinstance(old, int) or not isinstance(size, int):
            raise CompileError("tiling over the tokens is not supported")
        value = converter.emit.concat([value] * (size // old), axis)
    return value


def _nothing(converter: Converter, node: torch.fx.Node) -> Term:
    return None


_COPIES = (
    "alias", "contiguous", "clone", "detach", "detach_", "dropout", "lift_fresh_copy", "positive",
    "to.device", "feature_dropout", "_unsafe_view_copy", "resolve_conj", "resolve_neg",
)  # fmt: skip
_CASTS = ("to.dtype", "to.dtype_layout", "_to_copy", "type_as", "to.other")
_RESHAPES = (
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "unsqueeze",
    "squeeze",
    "_unsafe_view",
    "view_as",
    "reshape_as",
)

RULES: dict[str, Rule] = {
    **{f"aten.{name}": _same for name in _COPIES},
    **{f"aten.{name}": _cast for name in _CASTS},
    **{f"aten.{name}": _reshape for name in _RESHAPES},
    "aten._assert_tensor_metadata": _nothing,
    "aten.transpose": _transpose,
    "aten.swapaxes": _transpose,
    "aten.t": _t,
    "aten.numpy_T": _t,
    "aten.permute": _permuted,
    "aten.expand": _expand,
    "aten.expand_as": _expand,
    "aten.split": _parts,
    "aten.split_with_sizes": _parts,
    "aten.chunk": _parts,
    "aten.unbind": _parts,
    "aten.cat": _cat,
    "aten.concat": _cat,
    "aten.concatenate": _cat,
    "aten.stack": _stack,
    "aten.repeat_interleave": _repeat_interleave,
    "aten.repeat": _repeat,
    "aten.tile": _repeat,
}
