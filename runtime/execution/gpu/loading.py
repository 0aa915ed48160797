"""What every executor of a GPU loads: weights, and the kernels of a plan."""

from __future__ import annotations

from pathlib import Path

from ....ir.errors import ArtifactError
from ....targets.launch_plan import LaunchPlan
from ....targets.manifest import LibraryRecord
from ..artifact import Artifact
from .device import Device, Function

__all__ = ["KEPT_BYTES", "find_module", "load_kernels", "place_parameters"]

KEPT_BYTES = 256 << 20
"""Memory that is left alone, for the driver's own needs: kernels, recordings, stacks."""


def place_parameters(artifact: Artifact, device: Device) -> dict[str, int]:
    """Addresses of the artifact's weights on the device, by the names that plans give their arrays.

    Raises :class:`ArtifactError` where a file was altered, :class:`CapacityError` where they do not fit.
    """
    records = {
        f"{parameter.name}#{number}": record
        for parameter in artifact.manifest.parameters
        for number, record in enumerate(parameter.arrays)
    }
    placed = device.place(artifact.arrays, tuple(records.values()))
    artifact.check()
    return dict(zip(records, placed, strict=True))


def load_kernels(
    artifact: Artifact, library: LibraryRecord, plan: LaunchPlan, device: Device
) -> dict[str, Function]:
    """The plan's kernels; raises :class:`ArtifactError` where there are none for the device."""
    names = {launch.kernel for group in plan.groups for launch in group.launches}
    return device.load(find_module(artifact.folder, library, plan, device), sorted(names))


def find_module(folder: Path, library: LibraryRecord, plan: LaunchPlan, device: Device) -> Path:
    """The file for this device: machine code of its own architecture, or else what its driver compiles."""
    for name in plan.modules:
        if device.takes(name):
            return folder / Path(library.path).parent / name
    raise ArtifactError(f"{folder} has kernels in {', '.join(plan.modules)}, and none for {device.name}")
