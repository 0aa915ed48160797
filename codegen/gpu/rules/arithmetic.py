"""Arithmetic element by element: a chain of operators is one kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ....ir import Operation, ScalarType, Value
from ....ir.errors import CompileError
from ....targets.launch_plan import Argument
from ...lowering.step import columns_of
from ..planning import Planning, Rule, size_of
from .rowwise import THREADS

__all__ = ["RULES"]

_FUNCTIONS: Mapping[str, str] = {
    "neg": "-({0})",
    "exp": "exponential({0})",
    "log": "logarithm({0})",
    "sqrt": "square_root({0})",
    "rsqrt": "divide(1.0f, square_root({0}))",
    "cos": "cosine({0})",
    "sin": "sine({0})",
    "floor": "round_down({0})",
    "tanh": "hyperbolic_tangent({0})",
    "sigmoid": "divide(1.0f, 1.0f + exponential(-({0})))",
    "silu": "Silu::of({0})",
    "gelu": "Gelu::of({0})",
    "gelu_tanh": "GeluTanh::of({0})",
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "div": "divide({0}, {1})",
    "maximum": "larger({0}, {1})",
    "minimum": "smaller({0}, {1})",
    "greater": "({0} > {1} ? 1.0f : 0.0f)",
    "where": "({0} != 0.0f ? {1} : {2})",
}
"""C++ over the operands' text, by operator. What needs an operand twice calls a function."""

_PRODUCTS = ("linear", "expert_linear", "head_linear")

_POWERS = {
    2.0: "squared({0})",
    3.0: "cubed({0})",
    0.5: _FUNCTIONS["sqrt"],
    -0.5: _FUNCTIONS["rsqrt"],
    -1.0: "divide(1.0f, {0})",
}


def _constant(planning: Planning, operation: Operation) -> None:
    array = np.asarray(operation.attributes["value"])
    if array.size != 1:
        raise CompileError(
            f"%{operation.result.name}: constants other than numbers are parameters on {planning.machine}"
        )
    planning.numbers[operation.result] = float(array.reshape(()))


def _elementwise(planning: Planning, operation: Operation) -> None:
    """Where the only use is elementwise too, it becomes part of that kernel."""
    if operation.result in planning.regions:  # in the kernel of its operand
        return
    users = planning.graph.users.get(operation.result, ())
    if (
        len(users) == 1
        and users[0].operator in RULES
        and users[0].operator != "constant"
        and users[0].result.type == operation.result.type
        and operation.result not in planning.graph.outputs
    ):
        planning.inlined[operation.result] = operation
        return
    if _is_rounded_by_products(planning, operation):
        planning.regions[operation.result] = planning.region(operation.operands[0])
        planning.unrounded.add(operation.result)
        return
    sources: dict[Value, int] = {}
    text = _expression(planning, operation, sources)
    rows, columns = operation.result.type.shape[0], columns_of(operation.result.type, 1)
    width = math.prod(columns)
    arguments, loads = [], []
    for source, number in sources.items():
        declaration, argument, load = _source(planning, operation, source, number, columns)
        arguments.append((declaration, argument))
        loads.append(load)
    out = planning.result(operation.result, rows, width)
    body = (
        f"for (int i = here.thread_index(); i < {width}; i += {THREADS}) {{ {' '.join(loads)} "
        f"out[(int64)here.block_x() * {width} + i] = {text}; }}"
    )
    planning.launch_rows(
        "elementwise",
        body,
        [*arguments, ("GLOBAL float* out", out.array)],
        (size_of(rows),),
        THREADS,
        rows=out.array,
    )


def _is_rounded_by_products(planning: Planning, operation: Operation) -> bool:
    """Whether a cast is of rows that only products use, on a machine whose products round them."""
    result, users = operation.result, planning.graph.users.get(operation.result, ())
    return (
        planning.machine.rounds_rows
        and operation.operator == "cast"
        and result.type.element is ScalarType.BFLOAT16
        and operation.operands[0] in planning.regions
        and all(user.operator in _PRODUCTS and user.operands[0] is result for user in users)
    )


def _source(
    planning: Planning, operation: Operation, source: Value, number: int, columns: Sequence[int]
) -> tuple[str, Argument, str]:
    """A source's declaration, what is given for it, and the statement that loads its element of ``i``."""
    name, own = f"x{number}", source.type
    if source in planning.plain:
        if own.rank != 1:
            raise CompileError(
                f"{operation.operator} of %{source.name} ({own}) has no kernel on {planning.machine}"
            )
        return (
            f"GLOBAL const int* {name}",
            planning.plain[source],
            f"float v{number} = {name}[here.block_x()];",
        )
    is_stored = source in planning.stored
    shape = (1,) * (operation.result.type.rank - own.rank) + own.shape
    region = None if is_stored else planning.region(source)
    if (is_stored and shape[0] != 1) or any(
        dim not in (1, wide) for dim, wide in zip(shape[1:], columns, strict=True)
    ):
        raise CompileError(
            f"{operation.operator} (%{operation.result.name}) of {own} has no kernel on {planning.machine}"
        )
    sizes = [int(dim) for dim in shape[1:]]
    terms, inner, step = [], 1, 1
    for size, wide in reversed(list(zip(sizes, columns, strict=True))):
        if size > 1:
            terms.append(f"i / {inner} % {wide} * {step}")
        inner, step = inner * wide, step * size
    place = " + ".join(terms) or "0"
    if sizes == list(columns):
        place = "i"
    if region is None:
        array = planning.parameter(source)
        return f"GLOBAL const float* {name}", array, f"float v{number} = {name}[{place}];"
    row = f"(int64)here.block_x() * {region.view.stride} + {region.view.offset}"
    return f"GLOBAL const float* {name}", region.array, f"float v{number} = {name}[{row} + {place}];"


def _expression(planning: Planning, operation: Operation, sources: dict[Value, int]) -> str:
    """C++ for what ``operation`` computes, over sources that are counted."""

    def term(value: Value) -> str:
        if value in planning.numbers:
            return _number(planning.numbers[value])
        if value in planning.inlined:
            return _expression(planning, planning.inlined[value], sources)
        return f"v{sources.setdefault(value, len(sources))}"

    terms = [term(operand) for operand in operation.operands]
    if operation.operator == "cast":
        if operation.result.type.element is ScalarType.BFLOAT16:  # rows of products, which take float32
            return f"widen_bfloat16(narrow_bfloat16({terms[0]}))"
        if operation.result.type.element is not ScalarType.FLOAT32:
            raise CompileError(f"a cast to {operation.attributes['to']} has no kernel on {planning.machine}")
        return terms[0]
    if operation.operator == "square":
        return f"squared({terms[0]})"
    if operation.operator == "pow":
        exponent = planning.numbers.get(operation.operands[1])
        if exponent not in _POWERS:
            raise CompileError(
                f"pow (%{operation.result.name}) has kernels for {', '.join(map(str, _POWERS))} "
                f"on {planning.machine}"
            )
        return _POWERS[exponent].format(terms[0])
    return _FUNCTIONS[operation.operator].format(*terms)


def _number(value: float) -> str:
    if math.isinf(value) or math.isnan(value):
        bits = int(np.float32(value).view(np.uint32))
        return f"bits_to_float({bits:#x}u)"
    return f"{float(np.float32(value))!r}f"


RULES: Mapping[str, Rule] = {
    **dict.fromkeys((*_FUNCTIONS, "cast", "pow", "square"), _elementwise),
    "constant": _constant,
}
"""By operator."""
