"""From what users name (a folder, a hub id) to a model in plain operators and its weights."""

from .configs import DecoderConfig
from .load import Model, load_model
from .registry import supported_architectures
from .weights import SourceFile, WeightSource

__all__ = ["DecoderConfig", "Model", "SourceFile", "WeightSource", "load_model", "supported_architectures"]
