"""Whole mixtures of quantized experts as one QMoE: gate and up, activation, down, and the weighted sum.

Who takes a token, and with what weight, is computed as the model says (see :mod:`.experts`) and handed over:
the operator chooses the experts whose score is 1, and mixes by the weights given. It wants the outputs of
gate and up in turns, so these are stored in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...ir import Array, Graph, Operation, QuantFormat, QuantizedArray
from .packing import blocks_of
from .products import Matrix
from .step import MICROSOFT, Step
from .weight_file import AnyArray

__all__ = ["instead_of_mixtures"]


def instead_of_mixtures(step: Step) -> Mapping[Operation, Callable[[], None]]:
    """For each operation of a mixture that one operator can be, what is emitted in its place."""
    instead: dict[Operation, Callable[[], None]] = {}
    for mixture in find_mixtures(step.graph):
        instead.update(dict.fromkeys(mixture.operations, lambda: None))
        instead[mixture.total] = partial(emit_mixture, step, mixture)
    return instead


@dataclass(frozen=True, slots=True)
class Mixture:
    """The operations of a mixture: both products, and the sum; the others lie between."""

    up: Operation
    down: Operation
    total: Operation
    between: tuple[Operation, ...]

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All of them."""
        return self.up, *self.between, self.down, self.total


def find_mixtures(graph: Graph) -> Iterator[Mixture]:
    """The mixtures that one operator can be."""
    for operation in graph.operations:
        if operation.operator == "expert_linear" and operation.operands[0].type.rank == 2:
            found = _mixture(graph, operation)
            if found is not None:
                yield found


def _mixture(graph: Graph, up: Operation) -> Mixture | None:
    gate = _only_user(graph, up, "silu_mul")
    rounding = None if gate is None else _only_user(graph, gate, "quantize")
    last = rounding or gate
    down = None if last is None else _only_user(graph, last, "expert_linear")
    total = None if down is None else _only_user(graph, down, "weighted_sum")
    if gate is None or down is None or total is None or total.operands[0] is not down.result:
        return None
    is_rounded = isinstance(up.operands[0].type.element, QuantFormat)
    if up.operands[2] is not down.operands[2] or is_rounded != (rounding is not None):
        return None
    layouts = []
    for product in (up, down):
        element = product.operands[1].type.element
        if not isinstance(element, QuantFormat) or product.operands[1] not in graph.parameters:
            return None
        layouts.append(blocks_of(element, int(product.operands[1].type.shape[2])))
    first, second = layouts
    if first is None or first != second or first.has_offsets:
        return None
    return Mixture(up, down, total, (gate, *((rounding,) if rounding else ())))


def _only_user(graph: Graph, operation: Operation, operator: str) -> Operation | None:
    users = graph.users.get(operation.result, ())
    is_it = len(users) == 1 and users[0].operator == operator and operation.result not in graph.outputs
    return users[0] if is_it else None


def emit_mixture(step: Step, mixture: Mixture) -> None:
    """Emit a mixture, where its sum stands."""
    x, up, chosen, *up_bias = mixture.up.operands
    _, down, _, *down_bias = mixture.down.operands
    matrices = Matrix(step, up, _in_turns), Matrix(step, down)
    blocks = matrices[0].blocks
    assert blocks is not None, "a mixture's weights lie in blocks"
    num_experts, per_token = int(up.type.shape[0]), int(chosen.type.shape[1])

    def zeros() -> str:
        tokens = step.emit("Shape", step.name(chosen), start=0, end=1)
        shape = step.emit("Concat", tokens, step.constant([num_experts]), axis=0)
        return step.emit("Expand", step.constant(0.0), shape)

    nothing = step.once(("nobody", chosen), zeros)
    weights = step.name(mixture.total.operands[1])
    ones = step.emit("Add", step.emit("Mul", weights, step.constant(0.0)), step.constant(1.0))
    scores, shares = (
        step.emit("ScatterElements", nothing, step.name(chosen), values, axis=1) for values in (ones, weights)
    )
    parts = [_parts(step, matrix) for matrix in matrices]
    biases = [
        step.use(step.weights.store(up_bias[0], "in turns", _bias_in_turns)["values"]).name
        if up_bias
        else "",
        step.name(down_bias[0]) if down_bias else "",
    ]
    points = [part[2] for part in parts]
    step.emit(
        "QMoE",
        step.name(x),
        scores,
        *(*parts[0][:2], biases[0], *parts[1][:2], biases[1]),
        *("", "", "", *points, "", shares),
        domain=MICROSOFT,
        result=mixture.total.result,
        k=per_token,
        activation_type="swiglu",
        activation_alpha=1.0,
        activation_beta=0.0,
        swiglu_fusion=1,
        normalize_routing_weights=0,
        expert_weight_bits=matrices[0].bits,
        fc2_expert_weight_bits=matrices[1].bits,
        block_size=blocks.size,
        weights_prepacked=0,
        accuracy_level=4 if x in step.rounded else 0,
    )


def _parts(step: Step, matrix: Matrix) -> tuple[str, str, str]:
    """Codes ``[experts, outputs, bytes]``, scales, and zero points or nothing."""
    codes = matrix.parts["codes"]
    flat = codes.viewed(".rows", (*codes.shape[:2], int(np.prod(codes.shape[2:]))))
    points = step.use(matrix.parts["zero_points"]).name if "zero_points" in matrix.parts else ""
    return step.use(flat).name, step.use(matrix.parts["scales"]).name, points


def _in_turns(array: Array) -> Array:
    """Outputs along the second dimension, the first of one half, the first of the other, and so on."""
    half = array.shape[1] // 2
    order = np.stack([np.arange(half), np.arange(half) + half], axis=1).reshape(-1)
    return array.map(lambda part: part[:, order]) if isinstance(array, QuantizedArray) else array[:, order]


def _bias_in_turns(array: Array) -> Mapping[str, AnyArray]:
    bias = _in_turns(array)
    assert isinstance(bias, np.ndarray), "biases are not quantized"
    return {"values": bias}
