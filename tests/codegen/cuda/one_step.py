"""One step of a graph on the emulated GPU, without a model around it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ingot.codegen.cuda.machine import CUDA
from ingot.codegen.gpu.planning import Planning
from ingot.codegen.gpu.rules import RULES
from ingot.codegen.kernels.layout import pack
from ingot.codegen.lowering.layouts import parameter_layouts
from ingot.ir import Array, Graph
from ingot.ir.types import bind_shape
from ingot.runtime.execution.gpu.cuda_driver import CudaDevice
from ingot.runtime.execution.gpu.plan_runner import PlanRunner
from ingot.targets.cuda import CudaGpu

from .emulated import compile_emulated

__all__ = ["OneStep"]


class OneStep:
    """A graph over a batch, compiled. The fixture ``gpu`` must be there.

    Args:
        graph: whose first output is what :meth:`run` gives.
        parameters: by name.
        folder: for the kernels.
        most: of each symbol, its largest number.
    """

    def __init__(
        self, graph: Graph, parameters: Mapping[str, Array], folder: Path, most: Mapping[str, int]
    ) -> None:
        plan, functions = Planning(graph, CUDA, RULES).run(())
        library = compile_emulated(functions, folder)
        self._device = CudaDevice(CudaGpu(0, "an emulated GPU", "sm_90", 1 << 30, 1))
        module = folder / "step-sm_90.cubin"
        module.write_bytes(str(library).encode() + b"\0")
        addresses = {}
        for value, layout in parameter_layouts(graph).items():
            for number, array in enumerate(pack(parameters[value.name], layout)):
                addresses[f"{value.name}#{number}"] = self._device.allocate(max(array.nbytes, 1))
                self._device.write(addresses[f"{value.name}#{number}"], array)
        states = {}
        for state in plan.states:
            shape = [most[dim] if isinstance(dim, str) else dim for dim in state.shape]
            states[state.name] = self._device.allocate(math.prod(shape) * np.dtype(state.dtype).itemsize)
        self._runner = PlanRunner(
            plan,
            self._device,
            self._device.load(module, sorted({launch.kernel for launch in plan.launches})),
            parameters=addresses,
            states=states,
            most=most,
            inputs={value.name: math.prod(bind_shape(value.type.shape, most)) for value in graph.inputs},
            vocab_size=int(graph.outputs[0].type.shape[1]),
        )

    def run(
        self, batch: Mapping[str, npt.NDArray[np.int32]], symbols: Mapping[str, int]
    ) -> npt.NDArray[np.float32]:
        """The graph's first output for a batch."""
        return self._runner.run(batch, symbols)

    def close(self) -> None:
        """Give memory back."""
        self._device.close()
