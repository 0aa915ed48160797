"""Rows times weights: by memory's bandwidth for few rows, on tensor cores for many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....ir import Operation, QuantFormat, Value
from ....ir.errors import CompileError
from ....ir.quantization import Integers
from ....targets.launch_plan import Argument, Bound
from ...kernels.layout import BLOCK, num_blocks
from ..planning import Planning, Rule, row_type, size_of

__all__ = ["FEW_ROWS", "RULES", "Weights", "weights_of"]

FEW_ROWS = 16
"""Rows up to which a product is bound by reading the weights."""

_ROWS_AT_ONCE, _FEW_WARPS, _MANY_WARPS = 4, 4, 4
_MANY_ROWS, _MANY_BLOCKS = 32, 2

_SCALES = {
    "float16": ("unsigned short", "Float16"),
    "bfloat16": ("unsigned short", "BFloat16"),
    "float32": ("float", "Float32"),
}
_ELEMENTS = {
    "float32": ("float", "Float32"),
    "float16": ("unsigned short", "Float16"),
    "uint16": ("unsigned short", "BFloat16"),
}


@dataclass(frozen=True, slots=True)
class Weights:
    """A matrix as kernels take it: C++ arguments, and the value made of them."""

    arguments: tuple[tuple[str, Argument], ...]
    value: str
    type: str
    is_half: bool = False
    is_coded: bool = False


def weights_of(planning: Planning, weight: Value) -> Weights:
    """How a product with a weight, or a look-up, sees it."""
    if weight not in planning.stored:
        raise CompileError(f"%{weight.name} ({weight.type}) is no parameter, as products on CUDA need")
    inputs, element = int(weight.type.shape[-1]), weight.type.element
    arrays = planning.stored[weight]
    if not isinstance(element, QuantFormat):
        ((part, array),) = arrays
        stored, name = _ELEMENTS[part.dtype]
        is_paired = str(len(part.shape) == 4).lower()
        kind = f"FloatWeights<{name}, {inputs}, {is_paired}>"
        return Weights(
            ((f"const {stored}* weights", array),), f"{kind}{{weights}}", kind, is_half=name != "Float32"
        )
    return _coded(weight, element, inputs, {part.suffix: array for part, array in arrays})


def _coded(weight: Value, element: QuantFormat, inputs: int, arrays: Mapping[str, Argument]) -> Weights:
    codes, scale = element.codes, element.scale
    top = scale if scale.of is None else scale.of
    is_two_level = element.has_whole_scales
    fits = scale.of is None or is_two_level
    if (
        not isinstance(codes, Integers)
        or not codes.signed
        or element.offset is not None
        or not fits
        or top.type not in _SCALES
    ):
        raise CompileError(
            f"%{weight.name}: weights in {element.name} have no kernel on CUDA; those of whole numbers with "
            "a scale for each group or row have, such as int4 and int8"
        )
    group = element.group_size or inputs
    if group % 32:
        raise CompileError(f"%{weight.name}: groups of {group} have no kernel on CUDA, multiples of 32 have")
    stored, name = _SCALES[top.type]
    numbers = f"{codes.bits}, {1 << (codes.bits - 1)}, {inputs}, {group}"
    kind = f"CodedWeights<{numbers}, {name}, {str(is_two_level).lower()}>"
    arguments = [("const unsigned char* weights", arrays[".codes"])]
    if is_two_level:
        arguments += [
            (f"const {stored}* scales", arrays[".super_scales"]),
            ("const signed char* factors", arrays[".scales"]),
        ]
    else:
        arguments += [(f"const {stored}* scales", arrays[".scales"])]
    value = f"{kind}{{weights, scales, {'factors' if is_two_level else 'nullptr'}}}"
    return Weights(tuple(arguments), value, kind, is_coded=True)


def _linear(planning: Planning, operation: Operation) -> None:
    x, weight, *biases = operation.operands
    weights = weights_of(planning, weight)
    outputs, inputs = (int(dim) for dim in weight.type.shape)
    bias = [("const float* bias", planning.parameter(value)) for value in biases]
    flag, given = str(bool(bias)).lower(), "bias" if bias else "nullptr"
    if x in planning.rounded:
        codes = planning.rounded[x]
        rows: int | str = codes.rows
        source = [("const signed char* x", codes.codes), ("const float* row_scales", codes.scales)]
        shape = f"{outputs}, {codes.group_size}, {weights.type}, {flag}"
        few = f"multiply_few_codes<{_FEW_WARPS}, {_ROWS_AT_ONCE}, {shape}>"
        many = f"multiply_many_codes<{_MANY_WARPS}, {shape}>"
        call = f"(x, row_scales, {weights.value}, {given}, out, num_rows);"
        has_many = True
    else:
        region = planning.region(x)
        rows, view = region.rows, row_type(region.view)
        source = [("const float* x", region.array)]
        shape = f"{inputs}, {outputs}, {view}, {weights.type}, {flag}"
        few = f"multiply_few<{_FEW_WARPS}, {_ROWS_AT_ONCE}, {shape}>"
        many = f"multiply_many<{_MANY_WARPS}, {shape}, false>"
        call = f"(x, {weights.value}, {given}, out, num_rows);"
        has_many = weights.is_half and inputs % 2 == 0
    if not isinstance(rows, str):
        raise CompileError(
            f"linear (%{operation.result.name}) of a fixed number of rows has no kernel on CUDA"
        )
    out = planning.result(operation.result, rows, outputs)
    arguments = [
        *source,
        *weights.arguments,
        *bias,
        ("float* out", out.array),
        ("int num_rows", Argument("symbol", rows)),
    ]
    blocks = num_blocks(outputs)
    planning.launch(
        "multiply_few",
        few + call,
        arguments,
        (size_of(blocks), size_of(rows, over=_ROWS_AT_ONCE)),
        32 * _FEW_WARPS,
        (Bound(rows, at_most=FEW_ROWS),) if has_many else (),
    )
    if has_many:
        side_by_side = _MANY_WARPS * _MANY_BLOCKS
        planning.launch(
            "multiply_many",
            many + call,
            arguments,
            (size_of(-(-blocks // side_by_side)), size_of(rows, over=_MANY_ROWS)),
            32 * _MANY_WARPS,
            (Bound(rows, at_least=FEW_ROWS + 1),),
        )


RULES: Mapping[str, Rule] = {"linear": _linear}
"""By operator."""

assert BLOCK == 16, "sources/weights.cuh has blocks of 16"
