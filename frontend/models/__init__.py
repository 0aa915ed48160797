"""Model definitions: blocks, and for each family how its configuration reads and what it is composed of."""

from .family import Family

__all__ = ["Family"]
