"""DistilBERT (Sanh et al., 2019): BERT's form with half the layers, and no types of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ...ir.errors import ConfigError
from ..configs import EncoderConfig, Fields, VectorConfig, read_encoder
from .encoder import EncoderNames, encode
from .family import EncoderFamily

__all__ = ["FAMILY"]

_PREFIX = "distilbert."
_NAMES = EncoderNames(
    layer="transformer.layer.{index}",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    output="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    feed_forward_norm="output_layer_norm",
)
_OWN_NAMES = {
    "dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_layers": "num_hidden_layers",
    "activation": "hidden_act",
}
"""Fields that go by other names than BERT's."""


def _from_hf(config: Mapping[str, object]) -> EncoderConfig:
    named = {_OWN_NAMES[name]: value for name, value in config.items() if name in _OWN_NAMES}
    defaults: dict[str, object] = {"num_hidden_layers": 6, "layer_norm_eps": 1e-12}
    fields = Fields({**config, **defaults, **named})
    return read_encoder(fields, model_type="distilbert", has_token_types=False)


def _rerank(config: EncoderConfig) -> VectorConfig:
    raise ConfigError("config.json: DistilBERT's head that compares two texts is not supported")


FAMILY = EncoderFamily(_from_hf, partial(encode, prefix=_PREFIX, names=_NAMES), _PREFIX, _rerank)
