"""Graphs of the IR, said in ONNX and run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from ingot.codegen.onnx.build import RULES
from ingot.codegen.onnx.mixtures import instead_of_mixtures
from ingot.codegen.onnx.step import Step, tensor_info
from ingot.codegen.onnx.weight_file import WeightFile
from ingot.ir import Array, Graph

__all__ = ["AnyArray", "run_in_onnx"]

AnyArray = npt.NDArray[np.generic]


def run_in_onnx(
    graph: Graph, arrays: Mapping[str, AnyArray], parameters: Mapping[str, Array], folder: Path
) -> list[AnyArray]:
    """The outputs of ``graph``; ``arrays`` are its inputs and states by name."""
    with (folder / "weights.bin").open("wb") as stream:
        step = Step(graph, WeightFile(stream, parameters.__getitem__), RULES)
        for value in (*graph.inputs, *graph.states):
            step.alias(value, value.name)
        step.walk(instead_of_mixtures(step))
    for value in graph.outputs:
        step.rename(step.name(value), f"out.{value.name}")
    inputs = [tensor_info(value.name, value.type) for value in (*graph.inputs, *graph.states)]
    outputs = [tensor_info(f"out.{value.name}", value.type) for value in graph.outputs]
    model = step.model("test", inputs, outputs, "weights.bin")
    path = folder / "model.onnx"
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[AnyArray] = session.run(None, dict(arrays))
    return found
