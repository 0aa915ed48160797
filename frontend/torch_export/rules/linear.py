"""Matrix products and look-ups."""

from __future__ import annotations

from typing import Any, cast

import torch

from ....ir.errors import CompileError
from ....ir.graph import Value
from ..converter import Converter, Rule
from ..layout import TOKENS
from ..terms import Positional, Term, TokenIds
from .shape import for_each_token
from .slices import of_positions

__all__ = ["RULES"]


def _linear(converter: Converter, node: torch.fx.Node) -> Term:
    x, weight, *bias = node.args
    operands = [converter.value(x), converter.weight(weight)]
    given = bias[0] if bias else node.kwargs.get("bias")
    if given is not None:
        operands.append(converter.value(given))
    return _emit_linear(converter, *operands)


def _emit_linear(converter: Converter, x: Value, weight: Value, *bias: Value) -> Value:
    """Rows by a matrix; more than two dimensions go as rows of the last."""
    return converter.emit("linear", x, weight, *bias)


def _addmm(converter: Converter, node: torch.fx.Node) -> Term:
    """``bias + x @ weight``, as the Conv1D of GPT-2 has it."""
    if node.kwargs:
        raise CompileError("a product with factors is not supported")
    bias, x, weight = node.args[:3]
    matrix = converter.weight(weight)
    return converter.emit("linear", converter.value(x), _turned(converter, matrix), converter.value(bias))


def _turned(converter: Converter, matrix: Value) -> Value:
    """A matrix ``[in, out]`` as ``linear`` wants it."""
    return converter.emit.transpose(matrix, (1, 0))


def _matmul(converter: Converter, node: torch.fx.Node) -> Term:
    return _product(converter, node, *cast("tuple[torch.fx.Node, torch.fx.Node]", node.args[:2]))


def _product(converter: Converter, node: torch.fx.Node, left: Any, right: Any) -> Value:
    first, second, out = (converter.layout(n) for n in (left, right, node))
    if second.rank == 2 and TOKENS not in second.sizes and TOKENS in first.sizes:
        return converter.emit("linear", converter.value(left), _turned(converter, converter.weight(right)))
    if first.rank == 2 and TOKENS not in first.sizes and second.tokens == (second.rank - 1,):
        if [size for size in second.sizes if size not in (1, TOKENS)] != [first.sizes[1]]:
            raise CompileError(f"a product of {first.sizes} and {second.sizes} is not supported")
        return converter.emit("linear", converter.value(right), converter.weight(left))  # columns are tokens
    if first.sizes[-1] == 1 and first.rank == second.rank == out.rank:  # an outer product, as of frequencies
        return converter.emit("mul", converter.aligned(left, out), converter.aligned(right, out))
    if first.rank < 3 or first.rank != second.rank:
        raise CompileError(f"a product of {first.sizes} and {second.sizes} is not supported")
    lead = [axis for axis in range(out.rank - 2) if not (out.in_batch[axis] and out.sizes[axis] == 1)]
    lead = [axis for axis in lead if axis in first.axes or axis in second.axes]
    a = converter.arrange(converter.value(left), first, [*lead, first.rank - 2, first.rank - 1])
    b = converter.arrange(converter.value(right), second, [*lead, second.rank - 1, second.rank - 2])
    for axis, dim in enumerate(lead):
        a, b = (
            converter.emit.repeat(x, axis, int(out.sizes[dim])) if x.type.shape[axis] != out.sizes[dim] else x
            for x in (a, b)
        )
    # Not merged with the transpose before it: keys with the heads in front are what passes look for.
    turned = converter.emit("transpose", b, axes=(*range(len(lead)), len(lead) + 1, len(lead)))
    product = converter.emit("matmul", a, turned)
    order = [*lead, out.rank - 2, out.rank - 1]
    product = converter.emit.transpose(product, [order.index(axis) for axis in out.axes if axis in order])
    return converter.emit.reshape(product, out.shape)


def _embedding(converter: Converter, node: torch.fx.Node) -> Term:
    return _look_up(converter, node.args[0], node.args[1])


def _index(converter: Converter, node: torch.fx.Node) -> Term:
    """Rows of a table, chosen by one tensor of numbers."""
    table, numbers = node.args[:2]
    chosen = cast("list[Any]", numbers)
    named = [dim for dim, which in enumerate(chosen) if which is not None]
    number = converter.term(chosen[named[0]])
    if len(named) == 1 and isinstance(number, torch.Tensor) and number.numel() == 1:
        source = cast(torch.fx.Node, table)
        axis = converter.axis(source, named[0])
        value = converter.value(source)
        index = int(number.item()) % int(value.type.shape[axis])
        return converter.emit.reshape(
            converter.emit.slice(value, axis, index, index + 1), converter.layout(node).shape
        )
    if len(chosen) != 1:
        raise CompileError("indexing by several tensors is not supported")
    return _look_up(converter, table, chosen[0])


def _index_select(converter: Converter, node: torch.fx.Node) -> Term:
    table, dim, numbers = node.args[:3]
    if dim != 0:
        raise CompileError("only rows can be looked up")
    return _look_up(converter, table, numbers)


def _look_up(converter: Converter, table: Any, numbers: Any) -> Term:
    rows, which = converter.weight(table), converter.term(numbers)
    if rows.type.rank != 2:
        raise CompileError(f"rows of a table of {rows.type} cannot be looked up")
    if isinstance(which, TokenIds):
        return converter.emit("embedding", rows, converter.token_ids)
    if isinstance(which, Positional) and which.multiple == 1 and which.offset >= 0:
        first = int(which.offset)
        if isinstance(converter.term(table), torch.Tensor):
            used = converter.emit.slice(rows, 0, first, int(rows.type.shape[0]))
            return converter.emit("gather_rows", used, converter.positions)
        used = converter.emit.slice(rows, 0, first, int(rows.type.shape[0]))
        return converter.emit("embedding", used, converter.positions)
    if isinstance(which, Positional) and which.multiple == 0:
        row = int(which.offset)
        return for_each_token(converter, converter.emit.slice(rows, 0, row, row + 1))
    if isinstance(which, Value) and which.type.rank == 1 and not which.type.scalar.is_float:
        return converter.emit("embedding", rows, which)
    raise CompileError("only rows of tokens and of positions can be looked up")


def _baddbmm(converter: Converter, node: torch.fx.Node) -> Term:
    """``alpha * (left @ right)``, and ``beta`` times what is added."""
    added, left, right = node.args[:3]
    emit = converter.emit
    product = _product(converter, node, left, right)
    product = emit("mul", product, emit.number(float(node.kwargs.get("alpha", 1))))
    beta = node.kwargs.get("beta", 1)
    if beta == 0 or converter.term(added) == Positional(0, 0.0):
        return product
    other = converter.aligned(added, converter.layout(node))
    return emit("add", product, other if beta == 1 else emit("mul", other, emit.number(float(beta))))


def _gather(converter: Converter, node: torch.fx.Node) -> Term:
    """Rows of a constant table at the tokens' positions."""
    table, numbers = converter.term(node.args[0]), converter.term(node.args[2])
    rank = converter.layout(cast(torch.fx.Node, node.args[0])).rank
    along = cast(int, node.args[1]) % rank
    if isinstance(table, torch.Tensor) and isinstance(numbers, Positional) and numbers.multiple == 1:
        first = int(numbers.offset)
        if first >= 0 and along == rank - 1:
            used = table.narrow(along, first, table.shape[along] - first)
            return of_positions(used, along, converter.layout(node))
        if first == 0 and along == rank - 2:
            return table
    raise CompileError("only rows of a constant can be gathered, at the tokens' positions")


RULES: dict[str, Rule] = {
    "aten.gather": _gather,
    "aten.linear": _linear,
    "aten.addmm": _addmm,
    "aten.matmul": _matmul,
    "aten.bmm": _matmul,
    "aten.baddbmm": _baddbmm,
    "aten.mm": _matmul,
    "aten.embedding": _embedding,
    "aten.index": _index,
    "aten.index_select": _index_select,
}
