"""What is computed row by row, or element by element: norms, rope, gates, chains of arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from ...ir import Operation, ScalarType
from .step import MICROSOFT, Rule, Step

__all__ = ["RULES"]

_DIRECT = {
    "add": "Add",
    "cos": "Cos",
    "div": "Div",
    "exp": "Exp",
    "floor": "Floor",
    "log": "Log",
    "maximum": "Max",
    "minimum": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "pow": "Pow",
    "sigmoid": "Sigmoid",
    "sin": "Sin",
    "sub": "Sub",
    "tanh": "Tanh",
}
"""Operators that ONNX has under another name."""


def _direct(step: Step, operation: Operation) -> None:
    names = [step.name(operand) for operand in operation.operands]
    step.emit(_DIRECT[operation.operator], *names, result=operation.result)


def _rsqrt(step: Step, operation: Operation) -> None:
    root = step.emit("Sqrt", step.name(operation.operands[0]))
    step.emit("Reciprocal", root, result=operation.result)


def _square(step: Step, operation: Operation) -> None:
    x = step.name(operation.operands[0])
    step.emit("Mul", x, x, result=operation.result)


def _greater(step: Step, operation: Operation) -> None:
    is_greater = step.emit("Greater", *map(step.name, operation.operands))
    step.cast(is_greater, ScalarType.FLOAT32, operation.result)


def _where(step: Step, operation: Operation) -> None:
    condition, first, second = map(step.name, operation.operands)
    is_zero = step.emit("Equal", condition, step.constant(0.0))
    step.emit("Where", is_zero, second, first, result=operation.result)


def _cast(step: Step, operation: Operation) -> None:
    to, name = ScalarType(cast(str, operation.attributes["to"])), step.name(operation.operands[0])
    if to is ScalarType.BFLOAT16:  # rows of products, which are of float32 here: rounded, and widened again
        name, to = step.cast(name, to), ScalarType.FLOAT32
    step.cast(name, to, operation.result)


def activate(step: Step, kind: str, x: str) -> str:
    """An activation of ``x``: ``silu``, ``gelu`` or ``gelu_tanh``."""
    if kind == "silu":
        return step.emit("QuickGelu", x, domain=MICROSOFT, alpha=1.0)
    return step.emit("Gelu", x, approximate="tanh" if kind == "gelu_tanh" else "none")


def _activation(step: Step, operation: Operation) -> None:
    step.alias(operation.result, activate(step, operation.operator, step.name(operation.operands[0])))


def _gate(step: Step, operation: Operation) -> None:
    """``activation(gate) * up`` of rows that hold both side by side."""
    (x,) = operation.operands
    half = int(x.type.shape[-1]) // 2
    sizes = step.constant([half, half])
    gate, up = step.emit_all("Split", step.name(x), sizes, results=2, axis=-1)
    gate = activate(step, operation.operator.removesuffix("_mul"), gate)
    step.emit("Mul", gate, up, result=operation.result)


def _rms_norm(step: Step, operation: Operation) -> None:
    names = [step.name(operand) for operand in operation.operands]
    epsilon = cast(float, operation.attributes["epsilon"])
    step.emit("RMSNormalization", *names, result=operation.result, axis=-1, epsilon=epsilon)


def _add_rms_norm(step: Step, operation: Operation) -> None:
    x, residual, weight = operation.operands
    total, normed = operation.results
    names = [step.name(value) for value in (x, residual, weight)]
    epsilon = cast(float, operation.attributes["epsilon"])
    if x.type.rank > 2:
        added = step.emit("Add", *names[:2], result=total)
        step.emit("RMSNormalization", added, names[2], result=normed, axis=-1, epsilon=epsilon)
        return
    results = (normed, None, None, total)
    step.emit_all(
        "SkipSimplifiedLayerNormalization", *names, domain=MICROSOFT, results=results, epsilon=epsilon
    )


def _layer_norm(step: Step, operation: Operation) -> None:
    names = [step.name(operand) for operand in operation.operands]
    if len(operation.results) == 2:
        names = [step.emit("Add", *names[:2], result=operation.results[0]), *names[2:]]
    epsilon = cast(float, operation.attributes["epsilon"])
    step.emit("LayerNormalization", *names, result=operation.results[-1], axis=-1, epsilon=epsilon)


def _rope(step: Step, operation: Operation) -> None:
    x, cosines, sines = operation.operands
    heads, head_dim, pairs = int(x.type.shape[1]), int(x.type.shape[2]), int(cosines.type.shape[1])
    # The operator wants a batch around the tokens; heads stay side by side.
    rows = step.reshape(step.name(x), [1, -1, heads * head_dim])
    angles = [
        step.once(("angles", value), lambda value=value: step.unsqueeze(step.name(value), 0))  # type: ignore[misc]
        for value in (cosines, sines)
    ]
    turned = step.emit(
        "RotaryEmbedding",
        rows,
        *angles,
        interleaved=int(cast(bool, operation.attributes["interleaved"])),
        num_heads=heads,
        rotary_embedding_dim=0 if 2 * pairs == head_dim else 2 * pairs,
    )
    step.reshape(turned, [-1, heads, head_dim], operation.result)


def _mean(step: Step, operation: Operation) -> None:
    axis = step.constant([cast(int, operation.attributes["axis"])])
    step.emit("ReduceMean", step.name(operation.operands[0]), axis, result=operation.result, keepdims=1)


def _l2_normalize(step: Step, operation: Operation) -> None:
    x = step.name(operation.operands[0])
    length = step.emit("ReduceL2", x, step.constant([-1]), keepdims=1)
    least = step.constant(np.array(operation.attributes["epsilon"], np.float32))
    step.emit("Div", x, step.emit("Max", length, least), result=operation.result)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_DIRECT, _direct),
    "add_layer_norm": _layer_norm,
    "add_rms_norm": _add_rms_norm,
    "cast": _cast,
    "gelu": _activation,
    "gelu_mul": _gate,
    "gelu_tanh": _activation,
    "gelu_tanh_mul": _gate,
    "greater": _greater,
    "l2_normalize": _l2_normalize,
    "layer_norm": _layer_norm,
    "mean": _mean,
    "rms_norm": _rms_norm,
    "rope": _rope,
    "rsqrt": _rsqrt,
    "silu": _activation,
    "silu_mul": _gate,
    "square": _square,
    "where": _where,
}
"""By operator."""
