"""The device of this machine that a library of an artifact runs on."""

from __future__ import annotations

from ....targets.manifest import LibraryRecord
from ..artifact import Artifact
from .device import Device

__all__ = ["ON_GPUS", "open_device"]

ON_GPUS = ("cuda", "metal")
"""Backends whose libraries are plans of launches."""


def open_device(artifact: Artifact, library: LibraryRecord) -> Device:
    """Open it; raises :class:`ArtifactError` where there is none."""
    if library.backend == "metal":
        from .metal_device import open_metal

        return open_metal(artifact.folder / library.path)
    from .cuda_driver import open_gpu

    return open_gpu(library)
