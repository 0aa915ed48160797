"""Weights quantized for what a text makes of their inputs, one layer of the model after the other."""

from .calibrate import METHODS, CalibrationMethod, calibrate
from .layers import cut_layers, read_parameters, run_layer
from .scoring import score
from .work import WorkFolder

__all__ = [
    "METHODS",
    "CalibrationMethod",
    "WorkFolder",
    "calibrate",
    "cut_layers",
    "read_parameters",
    "run_layer",
    "score",
]
