"""What is Metal's own: its language, its limits, and products and attention on matrices of simdgroups."""

from __future__ import annotations

from pathlib import Path

from ..gpu.kernel import DeviceFunction
from ..gpu.machine import Machine
from .attention import attend
from .limits import check_limits
from .probes import plan_probes
from .products import multiply_many

__all__ = ["METAL"]

_SOURCES = Path(__file__).with_name("sources")

_HERE = (
    "ingot::uint3 here_block [[threadgroup_position_in_grid]]",
    "unsigned here_thread [[thread_index_in_threadgroup]]",
    "unsigned here_lane [[thread_index_in_simdgroup]]",
    "unsigned here_simdgroup [[simdgroup_index_in_threadgroup]]",
)
"""What a kernel is told of where it runs, in the order of ``Here``."""


def _write_kernel(function: DeviceFunction) -> str:
    """Arguments are bound by their number: arrays as buffers, numbers as bytes."""
    check_limits(function)
    parameters = [
        f"{_declare(parameter)} [[buffer({number})]]" for number, parameter in enumerate(function.parameters)
    ]
    return (
        f"[[kernel, max_total_threads_per_threadgroup({function.threads})]] void {function.name}(\n"
        f"    {', '.join([*parameters, *_HERE])}) {{\n"
        f"  Here here{{here_block, here_thread, here_lane, here_simdgroup}};\n  {function.body}\n}}\n"
    )


def _declare(parameter: str) -> str:
    if "*" in parameter:
        return parameter
    kind, _, name = parameter.rpartition(" ")
    return f"constant {kind}& {name}"


METAL = Machine(
    name="Metal",
    header=_SOURCES / "machine.metal",
    sources=(_SOURCES / "products.metal", _SOURCES / "attention.metal", _SOURCES / "probes.metal"),
    write_kernel=_write_kernel,
    rules={},
    multiply_many=multiply_many,
    attend=attend,
    plan_probes=plan_probes,
)
"""GPUs of Apple's chips."""
