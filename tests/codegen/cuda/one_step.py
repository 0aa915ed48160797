"""One step of a graph on the emulated GPU, without a model around it."""

from __future__ import annotations

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
from ingot.runtime.execution.gpu.cuda_driver import CudaDevice
from ingot.runtime.execution.gpu.plan_runner import PlanRunner
from ingot.targets.cuda import CudaGpu

from .emulated import compile_emulated

__all__ = ["OneStep"]


class OneStep:
    """A graph of tokens, compiled; ``parameters`` by name. ``gpu`` is the fixture's driver."""

    def __init__(
        self, graph: Graph, parameters: Mapping[str, Array], gpu: Path, folder: Path, most_tokens: int
    ) -> None:
        plan, functions = Planning(graph, CUDA, RULES).run(())
        library = compile_emulated(functions, folder)
        self._device = CudaDevice(CudaGpu(0, "an emulated GPU", "sm_90", 1 << 30, 1))
        module = folder / "step.cubin"
        module.write_bytes(str(library).encode() + b"\0")
        addresses = {}
        for value, layout in parameter_layouts(graph).items():
            for number, array in enumerate(pack(parameters[value.name], layout)):
                addresses[f"{value.name}#{number}"] = self._device.allocate(max(array.nbytes, 1))
                self._device.write(addresses[f"{value.name}#{number}"], array)
        self._runner = PlanRunner(
            plan,
            self._device,
            self._device.load(module, sorted({launch.kernel for launch in plan.launches})),
            parameters=addresses,
            states={},
            most={"tokens": most_tokens, "rows": most_tokens},
            inputs={value.name: most_tokens for value in graph.inputs},
            vocab_size=int(graph.outputs[0].type.shape[1]),
        )

    def run(self, token_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """The graph's output for a batch."""
        count = len(token_ids)
        return self._runner.run({"token_ids": token_ids}, {"tokens": count, "rows": count})

    def close(self) -> None:
        """Give memory back."""
        self._device.close()
