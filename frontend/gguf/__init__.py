"""Models in GGUF files: the container, and all that llama.cpp's conversion writes into it."""

from .model import GgufModel, open_gguf
from .splits import gguf_name, gguf_parts

__all__ = ["GgufModel", "gguf_name", "gguf_parts", "open_gguf"]
