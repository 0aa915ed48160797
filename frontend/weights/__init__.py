"""Where weights come from: their names and types at once, their values when they are read."""

from .fitting import Fitting
from .folder import open_weights
from .provenance import SourceFile, hash_files
from .quantized import QUANTIZATION_FILES, QuantizedWeights, open_quantized
from .safetensors_file import SafetensorsFile
from .selected import SelectedWeights
from .source import FileWeights, WeightSource

__all__ = [
    "QUANTIZATION_FILES",
    "FileWeights",
    "Fitting",
    "QuantizedWeights",
    "SafetensorsFile",
    "SelectedWeights",
    "SourceFile",
    "WeightSource",
    "hash_files",
    "open_quantized",
    "open_weights",
]
