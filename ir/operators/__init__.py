"""The operators, by kind. Importing this package registers them all."""

from . import (
    cache,
    delta_rule,
    elementwise,
    embedding,
    experts,
    fused,
    latent,
    linear,
    quantized,
    recurrent,
    reduction,
    shape,
)

__all__ = [
    "cache",
    "delta_rule",
    "elementwise",
    "embedding",
    "experts",
    "fused",
    "latent",
    "linear",
    "quantized",
    "recurrent",
    "reduction",
    "shape",
]
