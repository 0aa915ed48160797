"""From what users name (a folder, a hub id) to a model in plain operators and its weights."""

from .configs import DecoderConfig, EncoderConfig, TracedConfig, VectorConfig
from .gguf import gguf_name, gguf_parts
from .load import FRONTENDS, Model, load_model
from .registry import supported_architectures
from .weights import SourceFile, WeightSource, hash_files

__all__ = [
    "FRONTENDS",
    "DecoderConfig",
    "EncoderConfig",
    "Model",
    "SourceFile",
    "TracedConfig",
    "VectorConfig",
    "WeightSource",
    "gguf_name",
    "gguf_parts",
    "hash_files",
    "load_model",
    "supported_architectures",
]
