"""What is computed row by row: norms, rotary embedding, gates, rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ....ir import Operation, QuantFormat
from ....ir.errors import CompileError
from ....ir.quantization import Float8, Integers
from ...kernels.rows import Rows
from ...lowering.step import width_of
from ..planning import ACTIVATIONS, Codes, Planning, Rule, row_type, size_of

__all__ = ["BLOCK_PARTS", "RULES", "THREADS"]

THREADS = 256
"""Of a block that takes one row."""

BLOCK_PARTS = f"SHARED_ARRAY(float, parts, [{THREADS // 32}]);"
"""Where the warps of such a block meet, for ``sum_of_block`` and the like."""


def _rms_norm(planning: Planning, operation: Operation) -> None:
    *rows, weight = operation.operands
    regions = [planning.region(value) for value in rows]
    x, *residual = regions
    size, epsilon = int(weight.type.shape[0]), float(cast(float, operation.attributes["epsilon"]))
    results = [planning.result(result, x.rows, x.view.width) for result in operation.results]
    views = f"{row_type(x.view)}, {row_type(regions[-1].view)}, {str(bool(residual)).lower()}"
    arguments = [("GLOBAL const float* x", x.array)]
    arguments += [("GLOBAL const float* residual", region.array) for region in residual]
    arguments += [("GLOBAL const float* weight", planning.parameter(weight))]
    arguments += [("GLOBAL float* total", results[0].array)] if residual else []
    arguments += [("GLOBAL float* out", results[-1].array)]
    given = "residual, weight, total" if residual else "nullptr, weight, nullptr"
    body = f"{BLOCK_PARTS} rms_norm<{THREADS}, {views}, {size}>(here, parts, x, {given}, out, {epsilon!r}f);"
    written = results[-1].array if size == x.view.width else None
    planning.launch_rows("rms_norm", body, arguments, (size_of(x.rows),), THREADS, rows=written)


def _layer_norm(planning: Planning, operation: Operation) -> None:
    num_rows = len(operation.results)
    rows, weights = operation.operands[:num_rows], operation.operands[num_rows:]
    regions = [planning.region(value) for value in rows]
    x, *residual = regions
    size, epsilon = int(weights[0].type.shape[0]), float(cast(float, operation.attributes["epsilon"]))
    results = [planning.result(result, x.rows, x.view.width) for result in operation.results]
    flags = f"{str(bool(residual)).lower()}, {str(len(weights) == 2).lower()}"
    arguments = [("GLOBAL const float* x", x.array)]
    arguments += [("GLOBAL const float* residual", region.array) for region in residual]
    names = ("weight", "bias")
    arguments += [
        (f"GLOBAL const float* {name}", planning.parameter(value))
        for name, value in zip(names, weights, strict=False)
    ]
    arguments += [("GLOBAL float* total", results[0].array)] if residual else []
    arguments += [("GLOBAL float* out", results[-1].array)]
    given = (
        "residual" if residual else "nullptr",
        "weight",
        "bias" if len(weights) == 2 else "nullptr",
        "total" if residual else "nullptr",
    )
    body = (
        f"{BLOCK_PARTS} layer_norm<{THREADS}, {row_type(x.view)}, {row_type(regions[-1].view)}, {flags}, "
        f"{size}>(here, parts, x, {', '.join(given)}, out, {epsilon!r}f);"
    )
    written = results[-1].array if size == x.view.width else None
    planning.launch_rows("layer_norm", body, arguments, (size_of(x.rows),), THREADS, rows=written)


def _mean(planning: Planning, operation: Operation) -> None:
    (source,) = operation.operands
    x, axis = planning.region(source), cast(int, operation.attributes["axis"])
    if axis < 1:
        raise CompileError(f"mean (%{operation.result.name}) does not keep rows whole")
    size, inner = int(source.type.shape[axis]), width_of(source.type, axis + 1)
    out = planning.result(operation.result, x.rows, x.view.width // size)
    body = f"mean<{THREADS}, {row_type(x.view)}, {size}, {inner}>(here, x, out);"
    arguments = [("GLOBAL const float* x", x.array), ("GLOBAL float* out", out.array)]
    planning.launch_rows("mean", body, arguments, (size_of(x.rows),), THREADS)


def _rope(planning: Planning, operation: Operation) -> None:
    x, cosines, sines = (planning.region(value) for value in operation.operands)
    head_dim, pairs = int(operation.operands[0].type.shape[2]), int(operation.operands[1].type.shape[1])
    out = planning.result(operation.result, x.rows, x.view.width)
    interleaved = str(bool(operation.attributes["interleaved"])).lower()
    shape = f"{THREADS}, {row_type(x.view)}, {head_dim}, {pairs}, {interleaved}"
    body = f"rope<{shape}>(here, x, cosines, sines, out);"
    arguments = [
        ("GLOBAL const float* x", x.array),
        ("GLOBAL const float* cosines", cosines.array),
        ("GLOBAL const float* sines", sines.array),
        ("GLOBAL float* out", out.array),
    ]
    planning.launch_rows("rope", body, arguments, (size_of(x.rows),), THREADS)


def _gate(planning: Planning, operation: Operation) -> None:
    x, times, view = planning.row_by_row(operation.operands[0])
    bound = planning.gated.get(operation.result)
    if bound is None:
        out = planning.result(operation.result, x.rows, x.view.width // 2)
    else:
        out = planning.region(operation.result)
    body = f"gate<{THREADS}, {row_type(view)}, {ACTIVATIONS[operation.operator]}>(here, x, out);"
    planning.launch_rows(
        "gate",
        body,
        [("GLOBAL const float* x", x.array), ("GLOBAL float* out", out.array)],
        (size_of(x.rows, times),),
        THREADS,
        () if bound is None else (bound,),
        rows=out.array if times == 1 else None,
    )


def _quantize(planning: Planning, operation: Operation) -> None:
    element, width = cast(QuantFormat, operation.result.type.element), int(operation.result.type.shape[-1])
    size = element.group_size or width
    x, times, view = planning.row_by_row(operation.operands[0])
    if isinstance(element.codes, Float8) and element.codes.type == "float8_e4m3fn" and size % 32 == 0:
        _round_to_float8(planning, operation, size)
        return
    fits = (
        isinstance(element.codes, Integers)
        and element.codes == Integers(8)
        and element.scale.type == "float32"
    )
    if not fits or size not in (32, width):
        raise CompileError(
            f"rows cannot be rounded to {element.name} on {planning.machine}: "
            "dynamic_int8_g32 and _row can be, and dynamic_fp8_e4m3 in groups of multiples of 32"
        )
    codes = planning.new_array(size_of(x.rows, times * width), 1)
    scales = planning.new_array(size_of(x.rows, times * (width // size)), 4)
    planning.rounded[operation.result] = Codes(codes, scales, x.rows, width, size)
    rounded = f"round_rows<{THREADS}, {row_type(view)}, {size}>(here, round_parts, {{}}, codes, scales);"
    body = f"{BLOCK_PARTS.replace('parts', 'round_parts')} {rounded}"
    arguments = [("GLOBAL signed char* codes", codes), ("GLOBAL float* scales", scales)]
    is_row = times == 1 and view == Rows.dense(width)
    left = planning.go_on(x.array, "rounded", body.format("out"), arguments) if is_row else ((),)
    arguments = [("GLOBAL const float* x", x.array), *arguments]
    for bounds in left:
        planning.launch_rows(
            "round_rows", body.format("x"), arguments, (size_of(x.rows, times),), THREADS, bounds
        )


def _round_to_float8(planning: Planning, operation: Operation, size: int) -> None:
    x, times, view = planning.row_by_row(operation.operands[0])
    width = view.width
    codes = planning.new_array(size_of(x.rows, times * width), 1)
    scales = planning.new_array(size_of(x.rows, times * (width // size)), 4)
    out = planning.result(operation.result, x.rows, times * width)
    planning.float8[operation.result] = Codes(codes, scales, x.rows, width, size)
    body = (
        f"{BLOCK_PARTS} round_rows_to_float8<{THREADS}, {row_type(view)}, {size}>"
        "(here, parts, x, codes, scales, out);"
    )
    arguments = [
        ("GLOBAL const float* x", x.array),
        ("GLOBAL unsigned char* codes", codes),
        ("GLOBAL float* scales", scales),
        ("GLOBAL float* out", out.array),
    ]
    planning.launch_rows("round_rows", body, arguments, (size_of(x.rows, times),), THREADS)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ACTIVATIONS, _gate),
    "add_layer_norm": _layer_norm,
    "add_rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "mean": _mean,
    "quantize": _quantize,
    "rms_norm": _rms_norm,
    "rope": _rope,
}
"""By operator."""
