"""Checkpoints that come quantized: each library's layout in a module of its own, with one line here.

A module has ``find_matrices(config, tensors)``, which says what the quantized matrices of a checkpoint are.
Their values come as they are stored, in another arrangement: nothing is rounded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from ...configs import Fields
from ..source import FileWeights, WeightSource
from .matrix import StoredTensors
from .source import QuantizedWeights

__all__ = ["METHODS", "QUANTIZATION_FILES", "QuantizedWeights", "open_quantized"]

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "auto-round": ".auto_round",
        "awq": ".awq",
        "bitsandbytes": ".bitsandbytes",
        "compressed-tensors": ".compressed_tensors",
        "fbgemm_fp8": ".fp8",
        "fp8": ".fp8",
        "gptq": ".gptq",
        "hqq": ".hqq",
        "mxfp4": ".mxfp4",
        "mxfp8": ".fp8",
    }
)
"""The module of each ``quant_method``."""

QUANTIZATION_FILES: Mapping[str, str] = MappingProxyType(
    {"quantize_config.json": "gptq", "quant_config.json": "awq"}
)
"""Files that say how weights are quantized where ``config.json`` does not, each with its method.

AutoGPTQ and AutoAWQ wrote them before ``config.json`` had a place for it.
"""


def open_quantized(config: Mapping[str, object], weights: FileWeights) -> WeightSource:
    """``weights`` as the model asks for them, by ``quantization_config`` of ``config.json``.

    Without one they are as they are.

    Raises:
        ConfigError: the method, or something about it, is not supported.
        WeightError: tensors that belong to a quantized matrix are missing or do not fit it.
    """
    fields = Fields(config).object("quantization_config")
    if fields is None:
        return weights
    method = fields.text("quant_method", _unnamed(fields))
    if method not in METHODS:
        raise fields.refuse(
            f"weights quantized by {method or 'an unnamed method'} are not supported; supported are "
            f"{', '.join(METHODS)}, and unquantized checkpoints"
        )
    tensors = StoredTensors(weights, method)
    module = import_module(METHODS[method], __name__)
    return QuantizedWeights(weights, method, module.find_matrices(fields, tensors))


def _unnamed(fields: Fields) -> str:
    """The method of a configuration from before methods had names."""
    by_bits = fields.flag("load_in_8bit", False) or fields.flag("load_in_4bit", False)
    return "bitsandbytes" if by_bits else ""
