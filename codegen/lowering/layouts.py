"""How a step's parameters and states lie in memory, by what uses them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ...ir import Graph, Value
from ...ir.errors import CompileError
from ..kernels.layout import Layout

__all__ = ["StateLayout", "parameter_layouts", "state_layouts"]


@dataclass(frozen=True, slots=True)
class StateLayout:
    """How a state lies in memory: dimensions, ``pages`` the symbolic one, and numpy dtype."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


class _StateRole(Enum):
    KEYS = "keys"
    VALUES = "values"


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


def state_layouts(graph: Graph) -> tuple[StateLayout, ...]:
    """How each state of a step is laid out: keys by column, so that neighbouring keys fill a vector.

    Slots of recurrent state lie as their types have it.
    """
    roles: dict[Value, _StateRole] = {}
    for operation in graph.operations:
        if operation.operator == "append_kv":
            roles[operation.operands[0]] = _StateRole.KEYS
            roles[operation.operands[1]] = _StateRole.VALUES
        elif operation.operator == "append_latents":
            roles[operation.operands[0]] = _StateRole.KEYS
    layouts = []
    for state in graph.states:
        if state not in roles:
            layouts.append(StateLayout(state.name, state.type.shape, state.type.scalar.value))
            continue
        pages, kv_heads, page_size, head_dim = state.type.shape
        inner = (head_dim, page_size) if roles[state] is _StateRole.KEYS else (page_size, head_dim)
        layouts.append(StateLayout(state.name, (pages, kv_heads, *inner), state.type.scalar.value))
    return tuple(layouts)
