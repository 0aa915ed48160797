"""Kernels by which a benchmark measures what a device can do at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...targets.launch_plan import Argument, Probe, Size

if TYPE_CHECKING:
    from .planning import Planning

__all__ = ["plan_probes"]

_THREADS, _AT_ONCE = 256, 8


def plan_probes(planning: Planning) -> tuple[Probe, ...]:
    """A copy of ``vectors`` of 16 bytes, and what the machine has for products."""
    return _copy(planning), *planning.machine.plan_probes(planning)


def _copy(planning: Planning) -> Probe:
    num_bytes = Size(16, ("vectors",))
    source, target = (planning.new_array(num_bytes, 1) for _ in range(2))
    planning.launch(
        "copy_vectors",
        f"copy_vectors<{_THREADS}, {_AT_ONCE}>(here, source, target, num_vectors);",
        [
            ("GLOBAL const uint4* source", source),
            ("GLOBAL uint4* target", target),
            ("int num_vectors", Argument("symbol", "vectors")),
        ],
        (Size(1, ("vectors",), over=_THREADS * _AT_ONCE),),
        _THREADS,
    )
    # Each byte is read and written.
    return Probe("copy", planning.take_group(), Size(32, ("vectors",)))
