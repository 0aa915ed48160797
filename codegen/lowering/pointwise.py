"""What is computed row by row, or element by element: norms, rope, gates, chains of arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np

from ...ir import Operation, Value
from ...ir.errors import CompileError
from ..kernels.elementwise import BINARY, UNARY, Argument, Expression, elementwise, gate
from ..kernels.pointwise import layer_norm, rms_norm, rope
from ..kernels.pooling import l2_normalize, pool
from ..kernels.rows import Rows
from .step import Rule, Step, width_of

__all__ = ["RULES"]


def _rms_norm(step: Step, operation: Operation) -> None:
    *rows, weight = operation.operands
    regions = [step.region(value) for value in rows]
    size, epsilon = int(weight.type.shape[0]), cast(float, operation.attributes["epsilon"])
    residual = regions[1].view if len(regions) == 2 else None
    key = (regions[0].view, size, epsilon, residual)
    arguments = [*(region.buffer for region in regions), step.stored[weight][1][0]]
    step.emit_rows(operation, rms_norm, key, arguments)


def _layer_norm(step: Step, operation: Operation) -> None:
    num_rows = len(operation.results)
    rows, weights = operation.operands[:num_rows], operation.operands[num_rows:]
    regions = [step.region(value) for value in rows]
    size, epsilon = int(weights[0].type.shape[0]), cast(float, operation.attributes["epsilon"])
    residual = regions[1].view if len(regions) == 2 else None
    key = (regions[0].view, size, epsilon, residual, len(weights) == 2)
    arguments = [region.buffer for region in regions] + [step.stored[weight][1][0] for weight in weights]
    step.emit_rows(operation, layer_norm, key, arguments)


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
        and users[0].operator in (*UNARY, *BINARY)
        and users[0].result.type == operation.result.type
        and operation.result not in step.graph.outputs
    ):
        step.inlined[operation.result] = operation
        return
    sources: dict[Value, int] = {}
    expression = _expression(step, operation, sources)
    arguments = tuple(_argument_of(step, source, operation) for source in sources)
    key = (expression, arguments, width_of(operation.result.type, len(step.rows_of(operation))))
    buffers = [step.region(source).buffer for source in sources]
    step.emit_rows(operation, elementwise, key, buffers)


def _expression(step: Step, operation: Operation, sources: dict[Value, int]) -> Expression:
    """What ``operation`` computes, over arguments that are counted in ``sources``."""

    def term(value: Value) -> Expression:
        if value in step.numbers:
            return step.numbers[value]
        if value in step.inlined:
            return _expression(step, step.inlined[value], sources)
        return sources.setdefault(value, len(sources))

    return (operation.operator, *map(term, operation.operands))


def _argument_of(step: Step, value: Value, operation: Operation) -> Argument:
    view, result = step.region(value).view, operation.result.type
    shape = value.type.shape
    if shape == result.shape or (shape[:1] == result.shape[:1] and view.width == 1):
        return Argument(view)
    vector = tuple(dim for index, dim in enumerate(shape) if dim != 1 or any(d != 1 for d in shape[:index]))
    if value in step.stored and vector and vector == result.shape[len(result.shape) - len(vector) :]:
        return Argument(Rows.dense(math.prod(int(dim) for dim in vector)), in_every_row=True)
    raise CompileError(
        f"{operation.operator} (%{operation.result.name}) of {value.type} that gives {result} "
        "has no kernel on CPU"
    )


def _rope(step: Step, operation: Operation) -> None:
    x, cosines, sines = operation.operands
    region, head_dim = step.region(x), int(x.type.shape[2])
    tables = [step.region(value).buffer for value in (cosines, sines)]
    key = (region.view, head_dim, int(cosines.type.shape[1]), operation.attributes["interleaved"])
    step.emit_rows(operation, rope, key, [region.buffer, *tables])


def _gate(step: Step, operation: Operation) -> None:
    region = step.region(operation.operands[0])
    activation = operation.operator.removesuffix("_mul")
    step.emit_rows(operation, gate, (region.view, activation), [region.buffer])


def _pool(step: Step, operation: Operation) -> None:
    rows, starts, _ = operation.operands
    region = step.region(rows)
    key = (region.view, cast(str, operation.attributes["kind"]))
    step.emit_rows(operation, pool, key, [region.buffer, step.plain[starts]])


def _l2_normalize(step: Step, operation: Operation) -> None:
    region = step.region(operation.operands[0])
    key = (region.view, cast(float, operation.attributes["epsilon"]))
    step.emit_rows(operation, l2_normalize, key, [region.buffer])


RULES: Mapping[str, Rule] = {
    **dict.fromkeys((*UNARY, *BINARY), _elementwise),
    "add_layer_norm": _layer_norm,
    "add_rms_norm": _rms_norm,
    "constant": _constant,
    "gelu_mul": _gate,
    "gelu_tanh_mul": _gate,
    "l2_normalize": _l2_normalize,
    "layer_norm": _layer_norm,
    "pool": _pool,
    "rms_norm": _rms_norm,
    "rope": _rope,
    "silu_mul": _gate,
}
"""By operator."""
