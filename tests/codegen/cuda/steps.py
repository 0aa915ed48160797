"""Graphs of a few operators, planned as a step, compiled for the emulation and run."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ingot.codegen.cuda.machine import CUDA
from ingot.codegen.gpu.planning import Planning, Region
from ingot.codegen.gpu.rules import RULES
from ingot.codegen.kernels.rows import Rows
from ingot.codegen.lowering.step import width_of
from ingot.ir import Graph, ScalarType
from ingot.targets.launch_plan import Argument

from .emulated import compile_emulated

__all__ = ["EmulatedStep"]

Arrays = Mapping[str, npt.NDArray[np.generic]]


class EmulatedStep:
    """A graph's step. Inputs of float32 are rows, as if they had been computed before."""

    def __init__(self, graph: Graph) -> None:
        planning = Planning(graph, CUDA, {**RULES, **CUDA.rules})
        for value in graph.inputs:
            if value.type.element is ScalarType.FLOAT32:
                view = Rows.dense(width_of(value.type))
                planning.regions[value] = Region(Argument("input", value.name), value.type.shape[0], view)
        self._graph = graph
        self._plan, functions = planning.run(())
        lives = {buffer.name: range(buffer.first, buffer.last + 1) for buffer in self._plan.buffers}
        for number, launch in enumerate(self._plan.launches):
            for argument in launch.arguments:
                assert argument.kind != "buffer" or number in lives[argument.name]
        with tempfile.TemporaryDirectory() as folder:
            self._library = ctypes.CDLL(str(compile_emulated(functions, Path(folder))))

    @property
    def kernels(self) -> list[str]:
        """Those that are launched, in order."""
        return [launch.kernel for launch in self._plan.launches]

    def run(self, arrays: Arrays, symbols: Mapping[str, int]) -> npt.NDArray[np.float32]:
        """The first output; ``arrays`` has inputs, parameters as they lie, and states, which are written.

        All other memory is NaN before.
        """
        result = self._graph.outputs[0].type
        rows = result.shape[0]
        out = np.full(
            (symbols[rows] if isinstance(rows, str) else rows, width_of(result)), np.nan, np.float32
        )
        known: dict[tuple[str, str], npt.NDArray[np.generic]] = {("logits", "logits"): out}
        for buffer in self._plan.buffers:
            known["buffer", buffer.name] = np.full(
                buffer.num_bytes.value(symbols) // 4 + 1, np.nan, np.float32
            )
        for name, array in arrays.items():
            assert array.flags.c_contiguous
            known.update({("input", name): array, ("state", name): array})
            known["parameter", name if "#" in name else f"{name}#0"] = array
        for launch in self._plan.launches:
            if not all(bound.holds(symbols) for bound in launch.bounds):
                continue
            values = [
                ctypes.c_uint64(symbols[argument.name])
                if argument.kind == "symbol"
                else ctypes.c_uint64(known[argument.kind, argument.name].ctypes.data)
                for argument in launch.arguments
            ]
            pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
            grid = (ctypes.c_int * 3)(*(size.value(symbols) for size in launch.grid))
            self._library[f"launch_{launch.kernel}"](grid, launch.threads, launch.shared_bytes, pointers)
        return out
