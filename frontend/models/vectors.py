"""Models that give a vector for a sequence: an encoder's or a decoder's states, pooled."""

from __future__ import annotations

from ...ir.graph import Module, Value
from ..configs import DenseLayer, VectorConfig
from .builder import ModelBuilder, identity
from .linears import Linear

__all__ = ["build_vectors"]

_EPSILON = 1e-12
"""Below which a vector's length does not count, in ``torch.nn.functional.normalize``."""


def build_vectors(builder: ModelBuilder, states: Value, config: VectorConfig, name: str) -> Module:
    """The model over one whole sequence, from its ``states`` ``[tokens, hidden_size]``.

    ``forward`` returns ``vector``, float32 ``[1, width]``.
    """
    x = builder.emit("pool", states, kind=config.pooling)
    for layer in config.layers:
        if isinstance(layer, DenseLayer):
            x = Linear(layer.name, layer.in_features, layer.out_features, layer.bias)(builder, x)
            x = x if layer.activation == "identity" else builder.emit(layer.activation, x)
        else:
            x = builder.emit("l2_normalize", x, epsilon=_EPSILON)
    forward = builder.build(x)
    return Module(name, "plain", identity(forward.parameters), forward)
