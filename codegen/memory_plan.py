"""What running a step takes, known before anything is loaded."""

from __future__ import annotations

import math

import numpy as np

from ..ir import Graph, QuantFormat, Value, page_bytes_of, page_size_of
from ..targets.manifest import MemoryPlan
from .lowering import MAX_STEP_TOKENS, row_codes

__all__ = ["plan_memory"]

_VIEWS = frozenset({"reshape", "slice"})


def plan_memory(graph: Graph, *, weight_bytes: int, max_step_tokens: int = MAX_STEP_TOKENS) -> MemoryPlan:
    """The plan for a step: KV bytes a token over all layers, and the most activations alive at once.

    A page's slots of recurrent state count with its keys and values, each token having its share of them.
    """
    return MemoryPlan(
        weight_bytes=weight_bytes,
        kv_bytes_per_token=-(-page_bytes_of(graph) // page_size_of(graph)),
        activation_bytes_per_token=_peak_activations(graph),
        max_step_tokens=max_step_tokens,
        page_size=page_size_of(graph),
    )


def _bytes(value: Value, graph: Graph) -> int:
    """Bytes for one of the leading, symbolic dimension."""
    count, element = math.prod(int(dim) for dim in value.type.shape[1:]), value.type.element
    if isinstance(element, QuantFormat):
        layout = row_codes(graph, value)
        sizes = (columns * np.dtype(dtype).itemsize for _, columns, dtype in layout.columns)
        return sum(sizes) * (count // layout.width)
    return count * element.num_bytes


def _copies(value: Value, graph: Graph) -> int:
    """How often a value lies in memory: rounded rows do once for each expert of a token that has them."""
    users = graph.users.get(value, ())
    chosen = [int(user.operands[2].type.shape[1]) for user in users if user.operator == "expert_linear"]
    if not chosen or value.type.rank != 2 or not isinstance(value.type.element, QuantFormat):
        return 1
    return max(chosen) + (len(chosen) < len(users))


def _peak_activations(graph: Graph) -> int:
    """Walk the step and add up, for a token, what is alive: a view keeps alive what it looks at."""
    owner: dict[Value, Value] = {}
    for operation in graph.operations:
        for result in operation.results:
            source = operation.operands[0] if operation.operator in _VIEWS else result
            owner[result] = owner.get(source, source)
    last_use: dict[Value, int] = {}
    for index, operation in enumerate(graph.operations):
        for value in (*operation.operands, *operation.results):
            if value in owner:
                last_use[owner[value]] = index
    alive = peak = 0
    ends: dict[int, list[int]] = {}
    for index, operation in enumerate(graph.operations):
        for result in operation.results:
            if owner[result] is result and result.type.shape[0] == "tokens":
                size = _bytes(result, graph) * _copies(result, graph)
                alive += size
                ends.setdefault(last_use[result], []).append(size)
        peak = max(peak, alive)
        alive -= sum(ends.pop(index, ()))
    return peak
