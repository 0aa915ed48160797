"""What each operator of torch's becomes, by its name without namespace's default overload."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..converter import Rule
from . import (
    attention,
    choices,
    complexes,
    elementwise,
    experts,
    linear,
    positions,
    recurrent,
    reduction,
    shape,
    slices,
    writes,
)

__all__ = ["RULES"]

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **shape.RULES,
        **slices.RULES,
        **elementwise.RULES,
        **choices.RULES,
        **reduction.RULES,
        **linear.RULES,
        **positions.RULES,
        **attention.RULES,
        **experts.RULES,
        **writes.RULES,
        **recurrent.RULES,
        **complexes.RULES,
    }
)
"""Rules by ``namespace.operator``, or ``namespace.operator.overload`` where overloads differ."""
