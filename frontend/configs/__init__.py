"""What a model's ``config.json`` says, taken in whole or refused."""

from .decoder import BlockForm, DecoderConfig, NormForm, read_decoder
from .encoder import EncoderConfig, read_encoder
from .fields import Fields
from .latent import LatentConfig, read_latent
from .mixture import MixtureConfig, late_mixtures, sparse_layers
from .recurrent import GatedDeltaConfig, Mamba2Config, RecurrentConfig, ShortConvolutionConfig
from .rope import DynamicRope, LinearRope, Llama3Rope, LongRope, PlainRope, Rope, YarnRope
from .rope_fields import read_layer_ropes, read_rope, read_rotary_dim
from .traced import TracedConfig
from .vectors import DenseLayer, Normalization, VectorConfig, VectorLayer
from .windows import alternating_windows, layered_windows, typed_windows, uniform_windows

__all__ = [
    "BlockForm",
    "DecoderConfig",
    "DenseLayer",
    "DynamicRope",
    "EncoderConfig",
    "Fields",
    "GatedDeltaConfig",
    "LatentConfig",
    "LinearRope",
    "Llama3Rope",
    "LongRope",
    "Mamba2Config",
    "MixtureConfig",
    "NormForm",
    "Normalization",
    "PlainRope",
    "RecurrentConfig",
    "Rope",
    "ShortConvolutionConfig",
    "TracedConfig",
    "VectorConfig",
    "VectorLayer",
    "YarnRope",
    "alternating_windows",
    "late_mixtures",
    "layered_windows",
    "read_decoder",
    "read_encoder",
    "read_latent",
    "read_layer_ropes",
    "read_rope",
    "read_rotary_dim",
    "sparse_layers",
    "typed_windows",
    "uniform_windows",
]
