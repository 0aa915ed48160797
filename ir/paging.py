"""What the pages of a step are like, read off its graph."""

from __future__ import annotations

import math
from typing import cast

from .graph import Graph
from .quantization import QuantFormat
from .types import TensorType

__all__ = ["page_bytes_of", "page_size_of", "row_bytes_of"]


def page_size_of(graph: Graph) -> int:
    """Positions in a page, as the operators over pages have it; 1 where there are none."""
    for operation in graph.operations:
        if operation.operator.startswith("append_"):
            return int(operation.operands[0].type.shape[2])
        if "page_size" in operation.attributes:
            return cast(int, operation.attributes["page_size"])
    return 1


def page_bytes_of(graph: Graph) -> int:
    """Bytes of a page over all layers: keys, values, and slots of recurrent states."""
    return sum(
        math.prod(int(dim) for dim in state.type.shape[1:-1]) * row_bytes_of(state.type)
        for state in graph.states
    )


def row_bytes_of(type_: TensorType) -> int:
    """Bytes of the elements along the last dimension, with their scales and offsets, if they have any."""
    width = int(type_.shape[-1])
    if not isinstance(type_.element, QuantFormat):
        return width * type_.element.num_bytes
    _, *factors = type_.element.components
    groups = (factor.dtype.itemsize * (width // (factor.size or width)) for factor in factors)
    return -(-width * type_.element.bits // 8) + sum(groups)
