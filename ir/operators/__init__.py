"""The operators, by kind. Importing this package registers them all."""

from . import (
    cache,
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
