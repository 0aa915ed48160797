"""What a backend made of a module, as the manifest says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..targets.manifest import FileRecord, LibraryRecord, ParameterRecord, StateRecord

__all__ = ["Built"]


@dataclass(frozen=True, slots=True)
class Built:
    """What the manifest says of libraries and weights; ``weights`` is the file of these, hashed already."""

    parameters: tuple[ParameterRecord, ...]
    states: tuple[StateRecord, ...]
    libraries: tuple[LibraryRecord, ...]
    weights: FileRecord
    toolchain: Mapping[str, str]
    notes: tuple[str, ...] = ()
