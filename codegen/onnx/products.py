"""Products of rows by weights, of floats or of codes, and look-ups in tables of either.

Weights in blocks go to MatMulNBits and GatherBlockQuantized, which share what the file holds. Where a format
adds a float to each group, the operator multiplies by the codes alone, and the groups' sums of the rows times
these floats are added: that is the same sum in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from ...ir import Array, Operation, QuantFormat, ScalarType, Value
from ...ir.errors import CompileError
from ...ir.quantization import CodeBook, Float8, Integers
from .packing import Blocks, blocks_of, pack_blocks, pack_decoded
from .step import MICROSOFT, Rule, Step
from .weight_file import Stored

__all__ = ["RULES", "Matrix", "matrix_of", "multiply"]

_EIGHT_BITS = 4
"""``accuracy_level`` of rows that are rounded to eight bits, block by block."""

_FLOAT32 = 1
"""``accuracy_level`` of rows that stay float32."""


class Matrix:
    """A weight ``[outputs, inputs]``, or several: in floats, in blocks, or decoded as the model loads."""

    def __init__(self, step: Step, weight: Value, reorder: Callable[[Array], Array] | None = None) -> None:
        """Store ``weight``, as ``reorder`` gives it where that is given."""
        self.value = weight
        self.outputs, self.inputs = (int(dim) for dim in weight.type.shape[-2:])
        element = weight.type.element
        self.blocks: Blocks | None = None
        self.parts: Mapping[str, Stored]
        if isinstance(element, QuantFormat):
            self.blocks = blocks_of(element, self.inputs)
            if self.blocks is None:
                self.parts = step.weights.store(weight, "decoded", pack_decoded)
            else:
                kind = f"blocks of {self.blocks.size}"
                pack = partial(pack_blocks, blocks=self.blocks)
                if reorder is None:
                    self.parts = step.weights.store(weight, kind, pack)
                else:
                    self.parts = step.weights.store(
                        weight, f"{kind} in turns", lambda array: pack(reorder(array))
                    )
        else:
            self.parts = {"values": step.stored(weight)}

    @property
    def bits(self) -> int:
        """Bits of a code in a block, as the file has them."""
        size = 0 if self.blocks is None else self.blocks.size
        return 8 * self.parts["codes"].shape[-1] // size

    def of_expert(self, expert: int) -> Matrix:
        """One expert's of weights ``[experts, outputs, inputs]``."""
        one = object.__new__(Matrix)
        one.value, one.outputs, one.inputs, one.blocks = self.value, self.outputs, self.inputs, self.blocks
        one.parts = {name: part.part(expert) for name, part in self.parts.items()}
        return one


def matrix_of(step: Step, weight: Value) -> Matrix:
    """How a product or a look-up sees a weight."""
    if weight not in step.graph.parameters:
        raise CompileError(f"%{weight.name} is multiplied by but is no parameter, which ONNX needs it to be")
    return Matrix(step, weight)


def multiply(
    step: Step, x: str, matrix: Matrix, *, rounded: bool, bias: str = "", result: Value | None = None
) -> str:
    """``x @ matrix.T + bias`` of rows ``[n, inputs]``, rounded to eight bits on the way or not."""
    if matrix.blocks is None:
        weight = _decoded(step, matrix)
        inputs = (x, weight, bias) if bias else (x, weight)
        return step.emit("Gemm", *inputs, result=result, transB=1)
    blocks = matrix.blocks
    operands = [x, _used(step, matrix, "codes"), _used(step, matrix, "scales")]
    operands.append(_used(step, matrix, "zero_points") if "zero_points" in matrix.parts else "")
    has_offsets = "offsets" in matrix.parts
    if bias:
        operands += ["", bias]
    while not operands[-1]:
        operands.pop()
    product = step.emit(
        "MatMulNBits",
        *operands,
        domain=MICROSOFT,
        result=None if has_offsets else result,
        K=matrix.inputs,
        N=matrix.outputs,
        bits=matrix.bits,
        block_size=blocks.size,
        accuracy_level=_EIGHT_BITS if rounded else _FLOAT32,
    )
    if not has_offsets:
        return product
    offsets = _used(step, matrix, "offsets")
    sums = step.once(("sums", x, blocks.size), lambda: _group_sums(step, x, blocks.size))
    return step.emit("Gemm", sums, offsets, product, result=result, transB=1)


def _group_sums(step: Step, x: str, size: int) -> str:
    groups = step.reshape(x, [0, -1, size])
    return step.emit("ReduceSum", groups, step.constant([-1]), keepdims=0)


def _used(step: Step, matrix: Matrix, part: str) -> str:
    return step.use(matrix.parts[part]).name


def _decoded(step: Step, matrix: Matrix) -> str:
    """The weight in float32, computed once when the model is loaded."""
    if "values" in matrix.parts:
        stored = step.use(matrix.parts["values"])
        if stored.dtype == np.float32:
            return stored.name
        return step.once(("float32", stored.name), lambda: step.cast(stored.name, ScalarType.FLOAT32))
    codes = matrix.parts["codes"]
    return step.once(
        ("decoded", codes.name),
        lambda: _decode(step, matrix, *(_used(step, matrix, part) for part in matrix.parts)),
    )


def _decode(step: Step, matrix: Matrix, codes: str, scales: str, offsets: str = "") -> str:
    """Values of rows of codes ``[..., inputs]`` with their scales and offsets ``[..., groups]``."""
    element = matrix.value.type.element
    if not isinstance(element, QuantFormat):
        raise CompileError(f"%{matrix.value.name} is not quantized")
    if isinstance(element.codes, (CodeBook, Float8)):
        # Through a table also for floats of eight bits: what is no number there is none here.
        values = step.emit("Gather", step.constant(element.codes.values), step.cast(codes, ScalarType.INT32))
    else:
        values = step.cast(codes, ScalarType.FLOAT32)
    groups = matrix.parts["scales"].shape[-1]
    apart = step.reshape(values, [-1, groups, matrix.inputs // groups])
    result = step.emit("Mul", apart, step.reshape(scales, [-1, groups, 1]))
    if offsets:
        result = step.emit("Add", result, step.reshape(offsets, [-1, groups, 1]))
    return step.reshape(result, [-1, matrix.inputs])


def _quantize(step: Step, operation: Operation) -> None:
    """Rows are rounded by the products that take them."""
    (source,) = operation.operands
    element = operation.result.type.element
    if not isinstance(element, QuantFormat) or not isinstance(element.codes, Integers):
        raise CompileError(f"backend onnx rounds rows to whole numbers, not to {element}")
    step.alias(operation.result, step.name(source))
    step.rounded.add(operation.result)


def _linear(step: Step, operation: Operation) -> None:
    x, weight, *bias = operation.operands
    matrix, rounded = matrix_of(step, weight), x in step.rounded
    bias_name = step.name(bias[0]) if bias else ""
    if x.type.rank == 2:
        multiply(step, step.name(x), matrix, rounded=rounded, bias=bias_name, result=operation.result)
        return
    rows = step.reshape(step.name(x), [-1, matrix.inputs])
    product = multiply(step, rows, matrix, rounded=rounded, bias=bias_name)
    shape = [dim if isinstance(dim, int) else -1 for dim in operation.result.type.shape]
    step.reshape(product, shape, operation.result)


def _head_linear(step: Step, operation: Operation) -> None:
    """Each head times a matrix of its own: one product of all, or one for each where codes are multiplied."""
    x, weight = operation.operands
    matrix, heads = matrix_of(step, weight), int(weight.type.shape[0])
    by_head = step.emit("Transpose", step.name(x), perm=[1, 0, 2])
    if matrix.blocks is None:
        weights = step.reshape(_decoded(step, matrix), [heads, matrix.outputs, matrix.inputs])
        turned = step.once(("turned", weights), lambda: step.emit("Transpose", weights, perm=[0, 2, 1]))
        product = step.emit("MatMul", by_head, turned)
    else:
        rows = step.emit_all("Split", by_head, results=heads, axis=0, num_outputs=heads)
        products = [
            multiply(
                step,
                step.reshape(row, [-1, matrix.inputs]),
                matrix.of_expert(head),
                rounded=x in step.rounded,
            )
            for head, row in enumerate(rows)
        ]
        product = step.emit("Concat", *(step.unsqueeze(one, 0) for one in products), axis=0)
    step.emit("Transpose", product, result=operation.result, perm=[1, 0, 2])


def _embedding(step: Step, operation: Operation) -> None:
    table, token_ids = operation.operands
    matrix, numbers = matrix_of(step, table), step.name(token_ids)
    result = operation.result
    if "values" in matrix.parts:
        stored = step.use(matrix.parts["values"])
        if stored.dtype == np.float32:
            step.emit("Gather", stored.name, numbers, result=result, axis=0)
        else:
            rows = step.emit("Gather", stored.name, numbers, axis=0)
            step.cast(rows, ScalarType.FLOAT32, result)
        return
    if matrix.blocks is None:
        parts = [step.emit("Gather", _used(step, matrix, part), numbers, axis=0) for part in matrix.parts]
        step.alias(result, _decode(step, matrix, *parts))
        return
    blocks = matrix.blocks
    codes = matrix.parts["codes"]
    operands = [
        step.use(codes.viewed(".table", (codes.shape[0], codes.shape[1] * codes.shape[2]))).name,
        numbers,
        _used(step, matrix, "scales"),
    ]
    if "zero_points" in matrix.parts:
        operands.append(_used(step, matrix, "zero_points"))
    has_offsets = "offsets" in matrix.parts
    rows = step.emit(
        "GatherBlockQuantized",
        *operands,
        domain=MICROSOFT,
        result=None if has_offsets else result,
        bits=matrix.bits,
        block_size=blocks.size,
        gather_axis=0,
        quantize_axis=1,
    )
    if has_offsets:
        offsets = step.emit("Gather", _used(step, matrix, "offsets"), numbers, axis=0)
        apart = step.reshape(rows, [0, -1, blocks.size])
        added = step.emit("Add", apart, step.unsqueeze(offsets, 2))
        step.reshape(added, [0, -1], result)


RULES: Mapping[str, Rule] = {
    "embedding": _embedding,
    "head_linear": _head_linear,
    "linear": _linear,
    "quantize": _quantize,
}
"""By operator."""
