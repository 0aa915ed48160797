"""Which architectures' GGUF files are read."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .architecture import Architecture
from .dense import DENSE
from .mixtures import MIXTURES

__all__ = ["ARCHITECTURES"]

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType({**DENSE, **MIXTURES})
"""By ``general.architecture``."""
