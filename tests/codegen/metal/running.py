"""Runs a graph's plan by emulated shaders, kernel after kernel, over arrays of numpy's."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ingot.codegen.gpu.kernel import source_of
from ingot.codegen.gpu.lower import plan_step
from ingot.codegen.kernels.layout import pack
from ingot.codegen.lowering.layouts import parameter_layouts
from ingot.codegen.metal.machine import METAL
from ingot.ir import Array, Graph, GraphBuilder, Module

from .emulated import compile_shaders

Arrays = dict[tuple[str, str], npt.NDArray[Any]]


class Step:
    """A graph over pages, compiled for Metal; its first output is what is computed.

    Args:
        graph: the step.
        folder: for what is compiled.
        parameters: by name.
        symbols: the largest of each, for memory, ``pages`` among them. What was never written is no number,
            as it must not matter.
    """

    def __init__(
        self, graph: Graph, folder: Path, parameters: Mapping[str, Array], symbols: Mapping[str, int]
    ) -> None:
        module = Module("step", "paged", GraphBuilder().build(), graph)
        self.plan, functions = plan_step(module, METAL)
        self.text = source_of(functions, METAL)
        self._library = ctypes.CDLL(str(compile_shaders(self.text, folder)))
        self._graph, self._arrays = graph, Arrays()
        for value, layout in parameter_layouts(graph).items():
            for number, array in enumerate(pack(parameters[value.name], layout)):
                self._arrays["parameter", f"{value.name}#{number}"] = array
        for state in self.plan.states:
            shape = [symbols[dim] if isinstance(dim, str) else dim for dim in state.shape]
            count = int(np.prod(shape)) * np.dtype(state.dtype).itemsize
            self._arrays["state", state.name] = np.full(count, 0xFF, np.uint8)
        for buffer in self.plan.buffers:
            self._arrays["buffer", buffer.name] = np.full(buffer.num_bytes.value(symbols), 0xFF, np.uint8)
        self.kernels: list[str] = []
        """Names of what the last run launched."""

    def set_state(self, name: str, array: npt.NDArray[Any]) -> None:
        """Keep what lies in an array, which has no more elements than there are; nothing else is a number."""
        state = self._arrays["state", name]
        state[:] = 0xFF
        state[: array.nbytes] = array.reshape(-1).view(np.uint8)

    def run(
        self, inputs: Mapping[str, npt.NDArray[np.int32]], symbols: Mapping[str, int]
    ) -> npt.NDArray[np.float32]:
        """The first output for a batch."""
        shape = [symbols[dim] if isinstance(dim, str) else dim for dim in self._graph.outputs[0].type.shape]
        result = np.full(shape, np.nan, np.float32)
        arrays = {("input", name): np.ascontiguousarray(array) for name, array in inputs.items()}
        arrays |= {**self._arrays, ("logits", "logits"): result}
        self.kernels = []
        for launch in self.plan.launches:
            if not all(bound.holds(symbols) for bound in launch.bounds):
                continue
            values = (ctypes.c_uint64 * len(launch.arguments))()
            for number, argument in enumerate(launch.arguments):
                if argument.kind == "symbol":
                    values[number] = symbols[argument.name]
                else:
                    values[number] = arrays[argument.kind, argument.name].ctypes.data
            pointers = [ctypes.addressof(values) + 8 * number for number in range(len(values))]
            grid = (ctypes.c_int * 3)(*(size.value(symbols) for size in launch.grid))
            function = self._library[f"launch_{launch.kernel}"]
            function(grid, launch.threads, (ctypes.c_void_p * len(pointers))(*pointers))
            self.kernels.append(launch.kernel.rpartition("_")[0])
        return result
