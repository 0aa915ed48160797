"""How a step's parameters and states lie in memory, by what uses them."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir import Graph, QuantFormat, TensorType, Value
from ...ir.errors import CompileError
from ..kernels.cache import CachedHeads, CodedElement, FloatElement
from ..kernels.layout import Layout

__all__ = ["StateLayout", "cached_heads", "parameter_layouts", "state_layouts"]


@dataclass(frozen=True, slots=True)
class StateLayout:
    """How a state lies in memory: dimensions, ``pages`` the symbolic one, and numpy dtype."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


def parameter_layouts(graph: Graph) -> dict[Value, Layout]:
    """How each parameter of a step is laid out, by what uses it.

    They are in the order in which the step first uses them, which is that of the entry's arguments and of
    the file.
    """
    known = frozenset(graph.parameters)
    layouts: dict[Value, Layout] = {}
    for operation in graph.operations:
        for position, operand in enumerate(operation.operands):
            if operation.operator == "linear":
                wanted = (None, Layout.BLOCKED, Layout.PADDED)[position]
            elif operation.operator == "head_linear":
                wanted = (None, Layout.BLOCKED)[position]
            elif operation.operator == "expert_linear":
                wanted = (None, Layout.BLOCKED, None, Layout.PADDED)[position]
            elif operation.operator == "embedding" and position == 0:
                wanted = Layout.BLOCKED
            else:
                wanted = Layout.ROWS
            if wanted is None or operand not in known:
                continue
            if layouts.setdefault(operand, wanted) is not wanted:
                raise CompileError(
                    f"parameter %{operand.name} is used in two ways that want different layouts"
                )
    for parameter in graph.parameters:
        layouts.setdefault(parameter, Layout.ROWS)
    return layouts


def state_layouts(graph: Graph) -> dict[Value, tuple[StateLayout, ...]]:
    """The arrays of each state of a step, in order.

    Caches lie as :mod:`..kernels.cache` says, slots of recurrent state as their types have it.
    """
    by_column: dict[Value, bool] = {}
    for operation in graph.operations:
        if operation.operator in ("append_kv", "append_latents"):
            by_column[operation.operands[0]] = True
        if operation.operator == "append_kv":
            by_column[operation.operands[1]] = False
    layouts: dict[Value, tuple[StateLayout, ...]] = {}
    for state in graph.states:
        if state not in by_column:
            layouts[state] = (StateLayout(state.name, state.type.shape, state.type.scalar.value),)
            continue
        pages, heads = state.type.shape[0], cached_heads(state.type, by_column=by_column[state])
        layouts[state] = tuple(
            StateLayout(state.name + part.suffix, (pages, *part.shape), part.dtype) for part in heads.parts
        )
    return layouts


def cached_heads(cache: TensorType, *, by_column: bool) -> CachedHeads:
    """How a cache of keys (``by_column``) or values ``[pages, kv_heads, page_size, dim]`` lies."""
    kv_heads, page_size, dim = (int(size) for size in cache.shape[1:])
    element: FloatElement | CodedElement
    if isinstance(cache.element, QuantFormat):
        element = CodedElement(cache.element.bits, cache.element.group_size or dim, cache.element.scale.type)
    else:
        element = FloatElement(cache.element.value)
    return CachedHeads(element, kv_heads, dim, page_size, by_column)
