"""How each operator becomes launches, by topic."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..planning import Rule
from . import (
    arithmetic,
    attention,
    cache,
    experts,
    latent,
    products,
    rearranging,
    recurrent,
    rowwise,
    vectors,
)

__all__ = ["RULES"]

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **rearranging.RULES,
        **rowwise.RULES,
        **arithmetic.RULES,
        **products.RULES,
        **experts.RULES,
        **attention.RULES,
        **latent.RULES,
        **cache.RULES,
        **recurrent.RULES,
        **vectors.RULES,
    }
)
"""By operator."""
