"""Modules as text, exactly: :func:`~ingot.ir.parser.parse_module` reads back what is written here.

::

    module "tinychat" stage plain

    prepare
      inputs(%model.norm.weight: bfloat16[256])
    {
      return %model.norm.weight
    }

    forward
      inputs(%token_ids: int32[tokens], %positions: int32[tokens])
      states(...)
      parameters(%model.norm.weight: bfloat16[256])
    {
      %0: float32[1] = constant(value=float32[1](1e-05))
      %1: float32[256] = cast(%model.norm.weight, to="float32")
      ...
      return %logits
    }

A section of a signature that is empty is left out. A name of other characters than letters, digits, ``_``,
``.``, ``'`` and ``+`` is quoted as in JSON: ``%"a b"``. Attributes are written in alphabetical order:
``true``, ``3``, ``1e-05`` (a float always has a point, an exponent, or is ``inf`` or ``nan``), ``"text"``,
``[tokens, 4, 64]``, and arrays as their type and their elements, ``int32[2](1, 2)``, or for more than a few
elements the little-endian bytes in base64.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .graph import Graph, Module, Operation, Value
from .operator import Attribute
from .types import ScalarType, TensorType

__all__ = ["NAME", "print_graph", "print_module"]

NAME = re.compile(r"[A-Za-z0-9_.'+]+")
"""A value's name that needs no quotes."""

_LINE_LENGTH = 110
_MOST_READABLE_ELEMENTS = 16


def print_module(module: Module) -> str:
    """The text of ``module``; equal modules give equal texts."""
    head = f"module {json.dumps(module.name)} stage {module.stage}\n"
    return "\n".join((head, print_graph("prepare", module.prepare), print_graph("forward", module.forward)))


def print_graph(name: str, graph: Graph) -> str:
    """The text of one graph, called ``name``."""
    return "\n".join(_graph_lines(name, graph)) + "\n"


def _graph_lines(name: str, graph: Graph) -> Iterator[str]:
    yield name
    yield from _section("inputs", graph.inputs)
    yield from _section("states", graph.states)
    yield from _section("parameters", graph.parameters)
    yield "{"
    for operation in graph.operations:
        yield f"  {_operation(operation)}"
    yield f"  return {', '.join(map(_name, graph.outputs))}".rstrip()
    yield "}"


def _section(title: str, values: Sequence[Value]) -> Iterator[str]:
    if not values:
        return
    declared = [f"{_name(value)}: {value.type}" for value in values]
    line = f"  {title}({', '.join(declared)})"
    if len(line) <= _LINE_LENGTH:
        yield line
        return
    yield f"  {title}("
    yield from (f"    {text}," for text in declared)
    yield "  )"


def _name(value: Value) -> str:
    return f"%{value.name if NAME.fullmatch(value.name) else json.dumps(value.name)}"


def _operation(operation: Operation) -> str:
    results = ", ".join(f"{_name(value)}: {value.type}" for value in operation.results)
    operands = [_name(value) for value in operation.operands]
    attributes = [f"{key}={_attribute(operation.attributes[key])}" for key in sorted(operation.attributes)]
    return f"{results} = {operation.operator}({', '.join(operands + attributes)})"


def _attribute(value: Attribute) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return _array(value)


def _array(array: npt.NDArray[np.generic]) -> str:
    type_ = TensorType(array.shape, ScalarType.of(array))
    is_float = type_.scalar.is_float
    if array.size > _MOST_READABLE_ELEMENTS or (is_float and bool(np.isnan(array.astype(np.float32)).any())):
        little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return f'{type_}("{base64.b64encode(little_endian.tobytes()).decode()}")'
    elements = [_float(element) if is_float else str(int(element)) for element in array.ravel()]
    return f"{type_}({', '.join(elements)})"


def _float(element: np.generic) -> str:
    """The shortest decimal that reads back as ``element`` where numpy finds one, else all its digits."""
    exact = float(element)
    shortest = repr(float(str(element)))
    return shortest if float(element.dtype.type(float(shortest))) == exact else repr(exact)
