"""Two small graphs beside a step: they make the pages of its states, and copy one, where the step runs.

On a processor pages are arrays that anybody may write. On another device only ONNX Runtime reaches them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from ...ir import Value
from .step import IR_VERSION, OPSET, tensor_info

__all__ = ["copied_pages", "new_pages"]


def new_pages(states: Iterable[Value]) -> onnx.ModelProto:
    """``num_pages`` (int64 ``[1]``) in, states of zeros out."""
    nodes, rests = [], []
    for state in states:
        rest, shape = f"{state.name}.rest", f"{state.name}.shape"
        rests.append(onnx.numpy_helper.from_array(np.array(state.type.shape[1:], np.int64), rest))
        zero = onnx.numpy_helper.from_array(np.zeros(1, state.type.scalar.numpy))
        nodes.append(onnx.helper.make_node("Concat", ["num_pages", rest], [shape], axis=0))
        nodes.append(onnx.helper.make_node("ConstantOfShape", [shape], [state.name], value=zero))
    count = onnx.helper.make_tensor_value_info("num_pages", onnx.TensorProto.INT64, [1])
    outputs = [tensor_info(state.name, state.type) for state in states]
    return _model(onnx.helper.make_graph(nodes, "new_pages", [count], outputs, rests))


def copied_pages(states: Iterable[Value]) -> onnx.ModelProto:
    """States in, and out again with the pages ``sources`` (int64 ``[copies]``) at ``targets`` as well."""
    nodes = [onnx.helper.make_node("Unsqueeze", ["targets", "last"], ["places"])]
    for state in states:
        pages = f"{state.name}.pages"
        nodes.append(onnx.helper.make_node("Gather", [state.name, "sources"], [pages], axis=0))
        nodes.append(onnx.helper.make_node("ScatterND", [state.name, "places", pages], [f"{state.name}.out"]))
    numbers = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["copies"])
        for name in ("sources", "targets")
    ]
    inputs = [tensor_info(state.name, state.type) for state in states]
    outputs = [tensor_info(f"{state.name}.out", state.type) for state in states]
    last = onnx.numpy_helper.from_array(np.array([1], np.int64), "last")
    return _model(onnx.helper.make_graph(nodes, "copied_pages", [*numbers, *inputs], outputs, [last]))


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ingot")
