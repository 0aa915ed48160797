"""Runs a graph's plan by emulated shaders, or by those of a Mac, over arrays that numpy sees."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
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


class EmulatedGpu:
    """A program of shaders on the CPU."""

    def __init__(self, text: str, folder: Path) -> None:
        self._library = ctypes.CDLL(str(compile_shaders(text, folder)))

    def memory(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        """Memory that kernels can be given."""
        return np.empty(num_bytes, np.uint8)

    def launch(
        self, kernel: str, grid: tuple[int, int, int], threads: int, values: Sequence[int | np.int32]
    ) -> None:
        """Launch a kernel over addresses of memory and numbers."""
        given = (ctypes.c_uint64 * len(values))(*map(int, values))
        pointers = [ctypes.addressof(given) + 8 * number for number in range(len(values))]
        function = self._library[f"launch_{kernel}"]
        function((ctypes.c_int * 3)(*grid), threads, (ctypes.c_void_p * len(pointers))(*pointers))

    def finish(self) -> None:
        """Wait until all is done."""


machine: Any = EmulatedGpu
"""Where steps run: tests may put another there."""


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
        self._gpu = machine(self.text, folder)
        self._graph, self._arrays = graph, Arrays()
        for value, layout in parameter_layouts(graph).items():
            for number, array in enumerate(pack(parameters[value.name], layout)):
                self._arrays["parameter", f"{value.name}#{number}"] = self._copied(array)
        for state in self.plan.states:
            shape = [symbols[dim] if isinstance(dim, str) else dim for dim in state.shape]
            count = int(np.prod(shape)) * np.dtype(state.dtype).itemsize
            self._arrays["state", state.name] = self._no_numbers(count)
        for buffer in self.plan.buffers:
            self._arrays["buffer", buffer.name] = self._no_numbers(buffer.num_bytes.value(symbols))
        self.kernels: list[str] = []
        """Names of what the last run launched."""

    def _no_numbers(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        memory: npt.NDArray[np.uint8] = self._gpu.memory(max(num_bytes, 1))
        memory[:] = 0xFF
        return memory

    def _copied(self, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        memory = self._no_numbers(array.nbytes)
        memory[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return memory

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
        result = self._no_numbers(4 * int(np.prod(shape)))
        arrays = {("input", name): self._copied(array) for name, array in inputs.items()}
        arrays |= {**self._arrays, ("logits", "logits"): result}
        self.kernels = []
        for launch in self.plan.launches:
            if not all(bound.holds(symbols) for bound in launch.bounds):
                continue
            values = [
                np.int32(symbols[argument.name])
                if argument.kind == "symbol"
                else arrays[argument.kind, argument.name].ctypes.data
                for argument in launch.arguments
            ]
            x, y, z = (size.value(symbols) for size in launch.grid)
            self._gpu.launch(launch.kernel, (x, y, z), launch.threads, values)
            self.kernels.append(launch.kernel.rpartition("_")[0])
        self._gpu.finish()
        return result.view(np.float32).reshape(shape).copy()
