"""Keys and values in pages: written by a step's tokens, and gathered by sequence.

Pages lie as the IR has them, ``[pages, kv_heads, page_size, dim]``, so that what a page holds of a head is in
one piece: a step writes its tokens' rows with ScatterND, in place where the caller binds one array to a
cache's input and output, and gathers the pages of its sequences, head by head. Caches of codes are two
arrays: the codes, two of four bits in a byte, one of each half of a head; and the groups' scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from ...ir import Operation, QuantFormat, ScalarType, TensorType, Value
from ...ir.errors import CompileError
from ...ir.quantization import Integers
from .step import Rule, Step

__all__ = ["RULES", "arrays_of", "gather_pages"]

_SCALES = ".scales"
"""Behind the name of a cache of codes."""

_MIDDLE = 8
"""What is added to a code of four bits, so that it is none below zero."""


def arrays_of(cache: Value, name: str = "") -> tuple[Value, ...]:
    """What a graph keeps of a state: the state itself, or codes (by its name) and scales; ``name`` in place
    of its own.
    """
    name = name or cache.name
    if not isinstance(cache.type.element, QuantFormat):
        return (Value(name, cache.type),)
    *lead, dim = cache.type.shape
    codes, scale = cache.type.element.codes, cache.type.element.scale
    if not isinstance(codes, Integers) or codes.bits not in (4, 8):
        raise CompileError(f"a cache of {cache.type.element.name} cannot be said in ONNX")
    kind = ScalarType.INT8 if codes.bits == 8 else ScalarType.UINT8
    width = int(dim) * codes.bits // 8
    return (
        Value(name, TensorType((*lead, width), kind)),
        Value(
            name + _SCALES, TensorType((*lead, int(dim) // (scale.size or int(dim))), ScalarType(scale.type))
        ),
    )


def _append_kv(step: Step, operation: Operation) -> None:
    keys, values, k, v, slots = operation.operands
    for cache, rows, result in zip((keys, values), (k, v), operation.results, strict=True):
        _append(step, cache, step.name(rows), slots, result)


def _append_latents(step: Step, operation: Operation) -> None:
    cache, latents, slots = operation.operands
    _append(step, cache, step.unsqueeze(step.name(latents), 1), slots, operation.result)


def _append(step: Step, cache: Value, rows: str, slots: Value, result: Value) -> None:
    """Write rows ``[tokens, kv_heads, dim]`` to their slots."""
    element = cache.type.element
    if element is ScalarType.BFLOAT16:
        raise CompileError(
            "a cache of bfloat16 cannot be said in ONNX: kv_cache is float32, float16, int8 or int4"
        )
    if isinstance(element, QuantFormat):
        parts = _rounded(step, cache.type, element, rows)
    else:
        parts = [rows if element is ScalarType.FLOAT32 else step.cast(rows, cache.type.scalar)]
    places = _places(step, cache.type, slots)
    step.alias(result, result.name)
    before, after = arrays_of(cache, step.name(cache)), arrays_of(result)
    for part, old, new in zip(parts, before, after, strict=True):
        step.emit("ScatterND", old.name, places, part, result=new)


def _rounded(step: Step, cache: TensorType, element: QuantFormat, rows: str) -> list[str]:
    """Rows ``[tokens, kv_heads, dim]`` as a cache's codes and scales, rounded as the IR rounds them."""
    kv_heads, dim = int(cache.shape[1]), int(cache.shape[3])
    codes = cast(Integers, element.codes)
    groups = step.reshape(rows, [-1, kv_heads, dim // (element.group_size or dim), element.group_size or dim])
    peaks = step.emit("ReduceMax", step.emit("Abs", groups), step.constant([-1]), keepdims=0)
    exact = step.emit("Div", peaks, step.constant(float(codes.largest)))
    scales = step.cast(exact, ScalarType(element.scale.type))
    divisors = step.unsqueeze(step.cast(scales, ScalarType.FLOAT32), 3)
    least = step.constant(float(np.finfo(np.float32).tiny))  # where all is zero, so that zeros are left
    whole = step.emit("Round", step.emit("Div", groups, step.emit("Max", divisors, least)))
    bounds = (step.constant(float(bound)) for bound in (codes.smallest, codes.largest))
    whole = step.reshape(step.emit("Clip", whole, *bounds), [-1, kv_heads, dim])
    if codes.bits == 8:
        return [step.cast(whole, ScalarType.INT8), scales]
    low, high = step.slice(whole, 2, 0, dim // 2), step.slice(whole, 2, dim // 2, None)
    both = step.emit("Add", low, step.emit("Mul", high, step.constant(16.0)))
    return [step.cast(step.emit("Add", both, step.constant(17.0 * _MIDDLE)), ScalarType.UINT8), scales]


def _places(step: Step, cache: TensorType, slots: Value) -> str:
    """int64 ``[tokens, kv_heads, 3]``: page, head and offset of each row."""
    kv_heads, page_size = int(cache.shape[1]), int(cache.shape[2])

    def compute() -> str:
        wide = step.unsqueeze(step.cast(step.name(slots), ScalarType.INT64), 1)
        size = step.constant(page_size)
        page, offset = (step.emit(operator, wide, size) for operator in ("Div", "Mod"))
        heads = step.constant(np.arange(kv_heads, dtype=np.int64)[None, :, None])
        like = step.emit("Expand", step.unsqueeze(page, 2), step.constant([1, kv_heads, 1]))
        parts = (
            like,
            step.emit("Add", heads, step.emit("Mul", like, step.constant(0))),
            step.emit("Expand", step.unsqueeze(offset, 2), step.constant([1, kv_heads, 1])),
        )
        return step.emit("Concat", *parts, axis=2)

    return step.once(("places", kv_heads, page_size), compute)


def gather_pages(step: Step, cache: Value, table: Value) -> str:
    """What the pages of each sequence hold: float32 ``[sequences, kv_heads, context, dim]``."""
    element, dim = cache.type.element, int(cache.type.shape[3])
    taken = [_gathered(step, array, table) for array in arrays_of(cache, step.name(cache))]
    if not isinstance(element, QuantFormat):
        return taken[0] if element is ScalarType.FLOAT32 else step.cast(taken[0], ScalarType.FLOAT32)
    codes, scales = (step.cast(name, ScalarType.FLOAT32) for name in taken)
    if cast(Integers, element.codes).bits == 4:
        sixteen = step.constant(16.0)
        high = step.emit("Floor", step.emit("Div", codes, sixteen))
        low = step.emit("Sub", codes, step.emit("Mul", high, sixteen))
        codes = step.emit("Sub", step.emit("Concat", low, high, axis=3), step.constant(float(_MIDDLE)))
    if element.group_size is None or element.group_size == dim:
        return step.emit("Mul", codes, scales)
    groups = step.reshape(codes, [0, 0, -1, dim // element.group_size, element.group_size])
    return step.reshape(step.emit("Mul", groups, step.unsqueeze(scales, 4)), [0, 0, -1, dim])


def _gathered(step: Step, array: Value, table: Value) -> str:
    _, kv_heads, page_size, width = (0 if isinstance(size, str) else size for size in array.type.shape)

    def compute() -> str:
        wide = step.cast(step.name(table), ScalarType.INT64)
        first = step.emit("Mul", step.unsqueeze(wide, 1), step.constant(kv_heads))
        heads = step.constant(np.arange(kv_heads, dtype=np.int64)[None, :, None])
        return step.emit("Add", first, heads)

    numbers = step.once(("pages", kv_heads), compute)
    by_head = step.reshape(array.name, [-1, page_size * width])
    taken = step.emit("Gather", by_head, numbers, axis=0)
    return step.reshape(taken, [0, 0, -1, width])


RULES: Mapping[str, Rule] = {"append_kv": _append_kv, "append_latents": _append_latents}
"""By operator."""
