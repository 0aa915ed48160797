"""What is computed row by row, or element by element: norms, rope, gates, chains of arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
from tvm import relax, tirx

from ...ir import Operation, ScalarType, Value
from ...ir.errors import CompileError
from ..kernels.elementwise import Argument, Expression, elementwise, gate
from ..kernels.functions import BINARY, CHOICES, UNARY
from ..kernels.isa import DotsBfloat16
from ..kernels.norms import layer_norm, rms_norm
from ..kernels.pointwise import mean, rope
from ..kernels.pooling import l2_normalize, pool
from ..kernels.round_rows import round_rows
from ..kernels.rows import RoundedRows, Rows
from .products import row_codes
from .step import Codes, Region, RoundedRegion, Rule, Size, Step, columns_of, width_of

__all__ = ["RULES"]

_ELEMENTWISE = (*UNARY, *BINARY, *CHOICES, "cast", "pow")


def _rms_norm(step: Step, operation: Operation) -> None:
    *rows, weight = operation.operands
    regions = [step.region(value) for value in rows]
    size, epsilon = int(weight.type.shape[0]), cast(float, operation.attributes["epsilon"])
    residual = regions[1].view if len(regions) == 2 else None
    key = (regions[0].view, size, epsilon, residual)
    arguments = [*(region.buffer for region in regions), step.stored[weight][1][0]]
    _emit_rounded(step, operation, rms_norm, key, arguments)


def _layer_norm(step: Step, operation: Operation) -> None:
    num_rows = len(operation.results)
    rows, weights = operation.operands[:num_rows], operation.operands[num_rows:]
    regions = [step.region(value) for value in rows]
    size, epsilon = int(weights[0].type.shape[0]), cast(float, operation.attributes["epsilon"])
    residual = regions[1].view if len(regions) == 2 else None
    key = (regions[0].view, size, epsilon, residual, len(weights) == 2)
    arguments = [region.buffer for region in regions] + [step.stored[weight][1][0] for weight in weights]
    _emit_rounded(step, operation, layer_norm, key, arguments)


def _emit_rounded(
    step: Step,
    operation: Operation,
    make: Callable[..., tirx.PrimFunc],
    key: tuple[object, ...],
    arguments: list[relax.Expr],
) -> None:
    """Call a kernel whose last result is rows; it makes codes of them where nothing else is read."""
    *others, last = operation.results
    rounded = _rounded(step, last)
    if rounded is None:
        step.emit_rows(operation, make, key, arguments)
        return
    rows, layout = step.rows_of(operation), row_codes(step.graph, rounded)
    shapes: list[tuple[Sequence[Size], str]] = [
        ((rows, width_of(result.type, len(rows))), "float32") for result in others
    ]
    shapes += [((rows, columns), dtype) for _, columns, dtype in layout.columns]
    buffers = step.call(make, (*key, layout), arguments, shapes)
    for result in others:
        step.regions[result] = Region(buffers.pop(0), rows, Rows.dense(width_of(result.type, len(rows))))
    step.codes[rounded, None] = Codes(*buffers)


def _rounded(step: Step, value: Value) -> Value | None:
    """The codes of ``value``, where all that is ever made of it are products with these."""
    users = step.graph.users.get(value, ())
    is_output = value in step.graph.outputs
    if is_output or len(users) != 1 or users[0].operator != "quantize" or value.type.rank != 2:
        return None
    rounded = users[0].result
    products = step.graph.users.get(rounded, ())
    return rounded if all(user.operator == "linear" for user in products) else None


def _constant(step: Step, operation: Operation) -> None:
    array = np.asarray(operation.attributes["value"])
    if array.size != 1:
        raise CompileError(f"%{operation.result.name}: constants other than numbers are parameters on CPU")
    step.numbers[operation.result] = float(array.reshape(()))


def _elementwise(step: Step, operation: Operation) -> None:
    """Where the only use is elementwise too, it becomes part of that kernel."""
    users = step.graph.users.get(operation.result, ())
    if (
        len(users) == 1
        and users[0].operator in _ELEMENTWISE
        and users[0].result.type == operation.result.type
        and operation.result not in step.graph.outputs
    ):
        step.inlined[operation.result] = operation
        return
    sources: dict[Value, int] = {}
    expression = _expression(step, operation, sources)
    rows = step.rows_of(operation)
    arguments, shape = _walks(step, operation, tuple(sources), len(rows))
    buffers = [step.plain[s] if s in step.plain else step.region(s).buffer for s in sources]
    step.emit_rows(operation, elementwise, (expression, arguments, shape), buffers)


def _expression(step: Step, operation: Operation, sources: dict[Value, int]) -> Expression:
    """What ``operation`` computes, over arguments that are counted in ``sources``."""

    def term(value: Value) -> Expression:
        if value in step.numbers:
            return step.numbers[value]
        if value in step.inlined:
            return _expression(step, step.inlined[value], sources)
        return sources.setdefault(value, len(sources))

    terms = [term(operand) for operand in operation.operands]
    match operation.operator:
        case "cast":
            if operation.result.type.element is not ScalarType.FLOAT32:
                to, result = operation.attributes["to"], operation.result.name
                raise CompileError(f"a cast to {to} (%{result}) has no kernel on CPU")
            return terms[0]  # all is float32 as soon as it is loaded
        case "pow":
            return _power(operation, *terms)
    return (operation.operator, *terms)


def _power(operation: Operation, base: Expression, exponent: Expression) -> Expression:
    """A power whose exponent is a number that needs no logarithm of a negative base."""
    powers: Mapping[object, Expression] = {
        2.0: ("square", base),
        3.0: ("mul", ("square", base), base),
        0.5: ("sqrt", base),
        -0.5: ("rsqrt", base),
        -1.0: ("div", 1.0, base),
    }
    if exponent not in powers:
        raise CompileError(
            f"pow (%{operation.result.name}) has a kernel for the exponents "
            f"{', '.join(map(str, powers))} on CPU, and no others"
        )
    return powers[exponent]


def _walks(
    step: Step, operation: Operation, sources: tuple[Value, ...], lead: int
) -> tuple[tuple[Argument, ...], tuple[int, ...]]:
    """How each source is walked to broadcast to the operation's result, and the dimensions of the walk."""
    result = operation.result.type
    shape = columns_of(result, lead)
    steps = [_steps(step, source, operation, lead) for source in sources]
    merged = _merged(shape, steps)
    arguments = []
    for source, walk in zip(sources, merged[1:], strict=True):
        if source in step.plain:
            arguments.append(Argument(Rows.dense(1), tuple(walk), is_integer=True))
            continue
        stored = step.stored[source][0][0].shape if source in step.stored else ()
        arguments.append(Argument(step.region(source).view, tuple(walk), stored))
    return tuple(arguments), tuple(merged[0])


def _steps(step: Step, source: Value, operation: Operation, lead: int) -> list[int]:
    """From one element of a source to the next along each dimension of the result's rows, 0 to stay."""
    result, own = operation.result.type, source.type
    columns = result.shape[lead:]
    shape = (1,) * (result.rank - own.rank) + own.shape
    if source in step.stored:
        fits = all(dim == 1 for dim in shape[:lead])
    elif source in step.plain:
        fits = own.rank == 1 and shape[:lead] == result.shape[:lead]
    else:
        fits = own.rank == result.rank and step.region(source).rows == result.shape[:lead]
    if not fits or any(dim not in (1, wide) for dim, wide in zip(shape[lead:], columns, strict=True)):
        raise CompileError(
            f"{operation.operator} (%{operation.result.name}) of {own} that gives {result} "
            "has no kernel on CPU"
        )
    sizes = [int(dim) for dim in shape[lead:]]
    return [0 if size == 1 else math.prod(sizes[index + 1 :]) for index, size in enumerate(sizes)]


def _merged(shape: tuple[int, ...], steps: list[list[int]]) -> list[list[int]]:
    """``shape`` and each of ``steps`` with as few dimensions as it takes, one at least."""
    merged: list[list[int]] = []  # from the last: a dimension, and the steps along it
    for column in reversed(list(zip(shape, *steps, strict=True))):
        size, *walk = column
        if size == 1:
            continue
        if merged and walk == [merged[-1][0] * inner for inner in merged[-1][1:]]:
            merged[-1][0] *= size
        else:
            merged.append([size, *walk])
    merged = merged[::-1] or [[1, *[0] * len(steps)]]
    return [list(column) for column in zip(*merged, strict=True)]


def _mean(step: Step, operation: Operation) -> None:
    (source,) = operation.operands
    region, axis = step.region(source), cast(int, operation.attributes["axis"])
    if axis < len(region.rows):
        raise CompileError(f"mean (%{operation.result.name}) does not keep rows whole")
    key = (region.view, int(source.type.shape[axis]), width_of(source.type, axis + 1))
    step.emit_rows(operation, mean, key, [region.buffer])


def _rope(step: Step, operation: Operation) -> None:
    x, cosines, sines = operation.operands
    region, head_dim = step.region(x), int(x.type.shape[2])
    tables = [step.region(value).buffer for value in (cosines, sines)]
    key = (region.view, head_dim, int(cosines.type.shape[1]), operation.attributes["interleaved"])
    step.emit_rows(operation, rope, key, [region.buffer, *tables])


def _gate(step: Step, operation: Operation) -> None:
    region = step.region(operation.operands[0])
    activation = operation.operator.removesuffix("_mul")
    _emit_rounded(step, operation, gate, (region.view, activation), [region.buffer])


def _pool(step: Step, operation: Operation) -> None:
    rows, starts, _ = operation.operands
    region = step.region(rows)
    key = (region.view, cast(str, operation.attributes["kind"]))
    step.emit_rows(operation, pool, key, [region.buffer, step.plain[starts]])


def _l2_normalize(step: Step, operation: Operation) -> None:
    region = step.region(operation.operands[0])
    key = (region.view, cast(float, operation.attributes["epsilon"]))
    step.emit_rows(operation, l2_normalize, key, [region.buffer])


def _cast(step: Step, operation: Operation) -> None:
    """To bfloat16 are rounded the rows of products; all else is float32 as soon as it is loaded."""
    (source,) = operation.operands
    if operation.result.type.element is not ScalarType.BFLOAT16:
        _elementwise(step, operation)
        return
    region = step.region(source)
    as_pairs = isinstance(step.isa, DotsBfloat16) and int(source.type.shape[-1]) % 2 == 0
    pairs, dense = RoundedRows(region.view.width), Rows.dense(region.view.width)
    result = ((region.rows, pairs.stride), "uint16") if as_pairs else ((region.rows, dense.stride), "float32")
    (buffer,) = step.call(round_rows, (region.view, as_pairs), [region.buffer], [result])
    if as_pairs:
        step.pairs[operation.result] = RoundedRegion(buffer, region.rows, pairs)
    else:
        step.regions[operation.result] = Region(buffer, region.rows, dense)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    "add_layer_norm": _layer_norm,
    "add_rms_norm": _rms_norm,
    "cast": _cast,
    "constant": _constant,
    "gelu_mul": _gate,
    "gelu_tanh_mul": _gate,
    "l2_normalize": _l2_normalize,
    "layer_norm": _layer_norm,
    "mean": _mean,
    "pool": _pool,
    "rms_norm": _rms_norm,
    "rope": _rope,
    "silu_mul": _gate,
}
"""By operator."""
