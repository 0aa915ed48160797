"""Kernels by which a benchmark measures how fast a Mac's GPU multiplies."""

from __future__ import annotations

from ...targets.launch_plan import Argument, Probe, Size
from ..gpu.planning import Planning

__all__ = ["plan_probes"]

_WARPS, _SIDE = 4, 8
"""As sources/probes.metal has them: simdgroups of a block, and rows of their matrices."""

_CHAINS = 8
"""Products that a simdgroup has under way."""

_FACTORS = {"float32": "float", "int8": "half"}
"""What the matrices of a model's products hold, by what these multiply: see sources/products.metal."""


def plan_probes(planning: Planning) -> tuple[Probe, ...]:
    """Products of matrices in registers, of all factors that there are."""
    return tuple(_products(planning, name, factor) for name, factor in _FACTORS.items())


def _products(planning: Planning, name: str, factor: str) -> Probe:
    out = planning.new_array(Size(32 * _WARPS), 4)
    planning.launch(
        f"probe_{name}",
        f"SHARED_ARRAY(float, shared, [{(2 + _WARPS) * _SIDE * _SIDE}]); "
        f"probe_matrices<{factor}, {_CHAINS}, {_WARPS}>(here, shared, out, num_rounds);",
        [("GLOBAL float* out", out), ("int num_rounds", Argument("symbol", "rounds"))],
        (Size(1, ("blocks",)),),
        32 * _WARPS,
    )
    operations = _WARPS * _CHAINS * 2 * _SIDE**3
    return Probe(name, planning.take_group(), Size(operations, ("blocks", "rounds")))
